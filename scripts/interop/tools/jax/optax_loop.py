"""Optax."""

import jax
import jax.numpy as jnp
import optax

from loaders.jax import Loader

weights = jnp.zeros((4, 4))
optimizer = optax.adam(0.01)
state = optimizer.init(weights)


def loss(weights, batch):
    """The loss of a batch."""
    return optax.softmax_cross_entropy_with_integer_labels(batch["features"] @ weights, batch["label"]).mean()


seen = []
for batch in Loader("dataset", "train", batch_size=16, features=["features", "label", "row"]):
    updates, state = optimizer.update(jax.grad(loss)(weights, batch), state)
    weights = optax.apply_updates(weights, updates)
    seen.append(batch)

# What follows compares it.
PACKAGE = "optax"
columns = seen
