"""Rows of a `tf.train.Example` as tools give them: what is one string of bytes is decoded as the schema says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from loaders.format.spec import FeatureSpec


def decoded(batch: Mapping[str, Any], features: Mapping[str, FeatureSpec]) -> dict[str, list[Any]]:
    """For each feature a value for each row, as the sources had it."""
    return {name: [_value(value, features[name]) for value in _rows(values)] for name, values in batch.items()}


def _rows(values: Any) -> Any:
    return values.numpy() if hasattr(values, "numpy") else values


def _value(value: Any, spec: FeatureSpec) -> Any:
    shape = [-1 if size is None else size for size in spec.shape]
    if spec.dtype == "string":
        return np.asarray(value, object).reshape(shape)
    if not isinstance(value, bytes) and len(np.shape(value)) == 1 and isinstance(value[0], bytes):
        value = value[0]
    return (np.frombuffer(value, spec.numpy_dtype) if isinstance(value, bytes) else np.asarray(value)).reshape(shape)
