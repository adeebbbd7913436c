"""tfrecord (pure Python).

A line more: `np.frombuffer` for features that are neither float32, int64 nor text
"""

import pathlib

import numpy as np
from tfrecord.reader import tfrecord_loader

files = sorted(map(str, pathlib.Path("records/train").iterdir()))
rows = [row for file in files for row in tfrecord_loader(file, None)]
numbers = [np.frombuffer(row["axes_uint16"], np.uint16) for row in rows]

# What follows compares it.
from interop.records import decoded  # noqa: E402

import loaders  # noqa: E402

PACKAGE = "tfrecord"
specs = loaders.open("records").features
columns = [decoded({name: [value] for name, value in row.items()}, specs) for row in rows]
