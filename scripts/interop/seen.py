"""A Keras model that gives back what it gets, by which one sees what came to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from loaders.format.spec import FeatureSpec

LACKS = ("complex64", "complex128", "float64", "string", "uint64")
"""What Keras's inputs cannot be on every backend."""


def names(features: Mapping[str, FeatureSpec]) -> list[str]:
    """The features that Keras has a dtype for."""
    return [name for name, spec in features.items() if spec.dtype not in LACKS]


def predicted(batches: Any, features: Mapping[str, FeatureSpec]) -> dict[str, np.ndarray[Any, Any]]:
    """What `predict` gives of batches of these features."""
    inputs = {
        name: keras.Input(features[name].shape, name=name, dtype=features[name].dtype) for name in names(features)
    }
    return dict(keras.Model(inputs, inputs).predict(batches, verbose=0))
