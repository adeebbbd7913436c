"""Flax."""

import jax
import optax
from flax import nnx

from loaders.jax import Loader

model = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, batch):
    """Changes the model by a batch."""

    def loss(model):
        scores = model(batch["features"])
        return optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"]).mean()

    optimizer.update(model, nnx.grad(loss)(model))
    return batch


batches = Loader("dataset", "train", batch_size=16, features=["features", "label", "row"], remainder="pad")
seen = [step(model, optimizer, batch) for batch in batches]

# What follows compares it.
PACKAGE = "flax"
columns = [{name: values[jax.numpy.asarray(batch["mask"])] for name, values in batch.items()} for batch in seen]
