"""Rows and batches as NumPy arrays, from the bytes of shards in the order of an epoch."""
