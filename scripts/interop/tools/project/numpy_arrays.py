"""NumPy."""

from loaders.numpy import Loader

batches = list(Loader("dataset", "train", batch_size=16))

# What follows compares it.
PACKAGE = "numpy"
columns = batches
