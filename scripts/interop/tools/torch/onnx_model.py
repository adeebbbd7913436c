"""ONNX (a Keras model on PyTorch, with the transform)."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import onnxruntime

import loaders

inputs = {"features": keras.Input((4,), name="features")}
scaled = loaders.TransformLayer.from_data_set("scaled", features=["features"])(inputs)
model = keras.Model(inputs, scaled["features"])
model.predict({"features": np.load("raw.npy")}, verbose=0)
model.export("model.onnx", format="onnx", verbose=False)
session = onnxruntime.InferenceSession("model.onnx")
found = session.run(None, {session.get_inputs()[0].name: np.load("raw.npy")})[0]

# What follows compares it.
PACKAGE = "onnxruntime"
stored = loaders.open("scaled")["train"][:]
np.testing.assert_allclose(found[stored["row"]], stored["features"], rtol=1e-6, atol=1e-6)
count = None
