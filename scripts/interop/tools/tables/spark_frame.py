"""Spark.

A line more: `schema`, where there is float16, which Spark has not
"""

from pyspark.sql import SparkSession

session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
schema = "row long, label long, features array<float>, one_float64 double, ragged_int16 array<array<short>>"
rows = session.read.schema(schema).parquet("parquet/train").collect()

# What follows compares it.
PACKAGE = "pyspark"
session.stop()
columns = {name: [row[name] for row in rows] for name in rows[0].asDict()}
