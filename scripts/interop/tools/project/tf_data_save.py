"""tf.data's save and load."""

import tensorflow as tf

import loaders

loaders.load("dataset", "train", batch_size=16).save("saved")
batches = tf.data.Dataset.load("saved")

# What follows compares it.
PACKAGE = "tensorflow"
columns = list(batches)
