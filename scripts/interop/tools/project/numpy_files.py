"""NumPy's files."""

import pathlib

import numpy as np

numbers = [np.load(path) for path in sorted(pathlib.Path("npy/train").glob("one_uint16-*.npy"))]

# What follows compares it.
PACKAGE = "numpy"
files = sorted(pathlib.Path("npy/train").iterdir())
columns = {}
for path in files:
    columns.setdefault(path.name.rpartition("-")[0], []).extend(np.load(path))
