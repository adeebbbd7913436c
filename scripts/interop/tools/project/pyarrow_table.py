"""PyArrow."""

import pyarrow as pa

import loaders

table = pa.table(loaders.open("dataset")["train"])

# What follows compares it.
PACKAGE = "pyarrow"
columns = table.to_pydict()
