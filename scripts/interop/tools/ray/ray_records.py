"""Ray Data, of records.

A line more: `np.frombuffer` for features that are neither float32, int64 nor text
"""

import numpy as np
import ray

rows = ray.data.read_tfrecords("records/train").take_all()
numbers = [np.frombuffer(row["axes_uint16"], np.uint16) for row in rows]

# What follows compares it.
from interop.records import decoded  # noqa: E402

import loaders  # noqa: E402

PACKAGE = "ray"
columns = decoded({name: [row[name] for row in rows] for name in rows[0]}, loaders.open("records").features)
ray.shutdown()
