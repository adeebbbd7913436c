"""TensorFlow Datasets at random (ArrayRecord)."""

import tensorflow_datasets as tfds

rows = tfds.builder_from_directory("arrayrecord").as_data_source("train")
row = rows[7]

# What follows compares it.
from interop.records import decoded  # noqa: E402

import loaders  # noqa: E402

PACKAGE = "array-record"
specs = loaders.open("records").features
columns = [decoded({name: [value] for name, value in rows[n].items()}, specs) for n in range(len(rows))]
