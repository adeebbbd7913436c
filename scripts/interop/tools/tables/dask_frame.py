"""Dask."""

import dask.dataframe as dd

frame = dd.read_parquet("parquet/train")

# What follows compares it.
PACKAGE = "dask"
found = frame.compute()
columns = {name: found[name].tolist() for name in found.columns}
