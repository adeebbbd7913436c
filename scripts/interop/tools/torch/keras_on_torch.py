"""Keras on PyTorch."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
from torch.utils.data import DataLoader

from loaders.torch import Loader

train = Loader("plain", "train", batch_size=16, features=["features", "label"], as_supervised=True)
train = DataLoader(train, batch_size=None)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(train, epochs=2, verbose=0)

# What follows compares it.
PACKAGE = "keras"
from interop.seen import names, predicted  # noqa: E402

import loaders  # noqa: E402

features = loaders.open("plain").features
batches = Loader("plain", "train", batch_size=16, features=names(features))
columns = predicted(DataLoader(batches, batch_size=None), features)
