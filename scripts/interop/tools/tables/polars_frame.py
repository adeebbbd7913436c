"""polars."""

import polars as pl

import loaders

frame = pl.DataFrame(loaders.open("dataset")["train"])

# What follows compares it.
PACKAGE = "polars"
columns = {name: frame[name].to_list() for name in frame.columns}
