"""Parquet (PyArrow)."""

import pyarrow.parquet as pq

table = pq.read_table("parquet/train")

# What follows compares it.
PACKAGE = "pyarrow"
columns = table.to_pydict()
