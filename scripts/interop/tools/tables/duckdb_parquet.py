"""DuckDB, of Parquet files."""

import duckdb

found = duckdb.sql("from 'parquet/train/*.parquet'").fetchall()

# What follows compares it.
PACKAGE = "duckdb"
names = duckdb.sql("from 'parquet/train/*.parquet'").columns
columns = dict(zip(names, zip(*found, strict=True), strict=True))
