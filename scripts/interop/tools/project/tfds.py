"""TensorFlow Datasets."""

import tensorflow_datasets as tfds

builder = tfds.builder_from_directory("records")
rows = tfds.as_numpy(builder.as_dataset(split="train"))

# What follows compares it.
from interop.records import decoded  # noqa: E402

import loaders  # noqa: E402

PACKAGE = "tensorflow-datasets"
specs = loaders.open("records").features
# Of uint32 it gives the bytes, and says so in its features.
columns = [decoded({name: [value] for name, value in row.items()}, specs) for row in rows]
