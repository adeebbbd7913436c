"""Keras on JAX.

A line more: `jax_enable_x64`, where integers do not fit in 32 bits; without it, `loaders.jax` refuses them
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras

from loaders.jax import Loader

jax.config.update("jax_enable_x64", True)
train = Loader("plain", "train", batch_size=16, features=["features", "label"], as_supervised=True, epochs=2)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit((batch for batch in train), epochs=2, steps_per_epoch=3, verbose=0)

# What follows compares it.
PACKAGE = "keras"
from interop.seen import names, predicted  # noqa: E402

import loaders  # noqa: E402

features = loaders.open("plain").features
batches = Loader("plain", "train", batch_size=16, features=names(features))
columns = predicted(((batch,) for batch in batches), features)
