"""Hugging Face's load_dataset."""

import datasets

rows = datasets.load_dataset("parquet", data_dir="parquet", cache_dir="cache", split="train")

# What follows compares it.
PACKAGE = "datasets"
columns = rows.to_dict()
