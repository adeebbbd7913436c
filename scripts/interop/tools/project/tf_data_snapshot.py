"""tf.data's snapshot."""

import tempfile

import loaders

batches = loaders.load("dataset", "train", batch_size=16).snapshot(tempfile.mkdtemp(dir="."))

# What follows compares it.
PACKAGE = "tensorflow"
for _ in batches:
    pass
columns = list(batches)  # from the copy
