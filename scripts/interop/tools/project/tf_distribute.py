"""tf.distribute."""

import tensorflow as tf

import loaders

strategy = tf.distribute.MirroredStrategy(["CPU:0"])
batches = strategy.experimental_distribute_dataset(loaders.load("dataset", "train", batch_size=16))
seen = [strategy.run(lambda batch: batch, args=(batch,)) for batch in batches]

# What follows compares it.
PACKAGE = "tensorflow"
columns = seen
