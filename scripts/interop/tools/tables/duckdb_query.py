"""DuckDB.

A line more: `drop_columns`, where there is float16, which DuckDB does not take from Arrow
"""

import duckdb
import pyarrow as pa

import loaders

rows = loaders.open("dataset")["train"]
rows = pa.table(rows).drop_columns(["one_float16", "axes_float16", "ragged_float16"])
found = duckdb.sql("from rows").fetchall()

# What follows compares it.
PACKAGE = "duckdb"
names = duckdb.sql("from rows").columns
columns = dict(zip(names, zip(*found, strict=True), strict=True))
