"""tf.data."""

import loaders

batches = list(loaders.load("dataset", "train", batch_size=16))

# What follows compares it.
PACKAGE = "tensorflow"
columns = batches
