"""fsspec."""

import fsspec

from loaders.numpy import Loader

fsspec.filesystem("memory").put("dataset/", "memory://elsewhere/dataset/", recursive=True)
batches = list(Loader("memory://elsewhere/dataset", "train", batch_size=16))

# What follows compares it.
PACKAGE = "fsspec"
columns = batches
