"""JAX.

A line more: `jax_enable_x64`, where there are numbers of 64 bits; without it, those that it would round are refused
"""

import jax

from loaders.jax import Loader

jax.config.update("jax_enable_x64", True)
batches = list(Loader("dataset", "train", batch_size=16))

# What follows compares it.
PACKAGE = "jax"
columns = [{name: list(values) for name, values in batch.items()} for batch in batches]
