"""Hugging Face's datasets."""

import datasets
import pyarrow as pa

import loaders

rows = datasets.Dataset(pa.table(loaders.open("dataset")["train"]))

# What follows compares it.
PACKAGE = "datasets"
columns = rows.to_dict()
