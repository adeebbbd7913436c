"""WebDataset."""

import pathlib

import webdataset

files = sorted(map(str, pathlib.Path("webdataset/train").iterdir()))
rows = webdataset.WebDataset(files, shardshuffle=False).decode()

# What follows compares it.
PACKAGE = "webdataset"
columns = [{name.removesuffix(".npy"): [value] for name, value in row.items() if name.endswith(".npy")} for row in rows]
