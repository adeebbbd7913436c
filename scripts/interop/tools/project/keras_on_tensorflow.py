"""Keras on TensorFlow."""

import keras

import loaders

train = loaders.load("plain", "train", batch_size=16, features=["features", "label"], as_supervised=True)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(train, epochs=2, verbose=0)

# What follows compares it.
PACKAGE = "keras"
from interop.seen import names, predicted  # noqa: E402

features = loaders.open("plain").features
columns = predicted(loaders.load("plain", "train", batch_size=16, features=names(features)), features)
