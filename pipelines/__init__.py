"""Builds data sets: from `.npy` files through tf.transform's analysis to sharded TFRecords."""
