"""Croissant (mlcroissant).

A line more: NaN comes as None
"""

import mlcroissant

rows = mlcroissant.Dataset("parquet/croissant.json").records("rows/train")

# What follows compares it.
PACKAGE = "mlcroissant"
columns = [
    {name.rpartition("/")[2]: [float("nan") if value is None else value] for name, value in row.items()} for row in rows
]
