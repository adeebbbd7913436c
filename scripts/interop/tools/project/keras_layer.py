"""Keras, with the transform as a layer."""

import keras
import numpy as np

import loaders

inputs = {"features": keras.Input((4,), name="features")}
scaled = loaders.TransformLayer.from_data_set("scaled", features=["features"])(inputs)
model = keras.Model(inputs, keras.layers.Dense(4)(scaled["features"]))
model.save("model.keras")
model = keras.saving.load_model("model.keras")
scores = model.predict({"features": np.load("raw.npy")}, verbose=0)

# What follows compares it.
PACKAGE = "keras"
stored = loaders.open("scaled")["train"][:]
np.testing.assert_allclose(scores[stored["row"]], model.layers[-1](stored["features"]), rtol=1e-5, atol=1e-6)
count = None
