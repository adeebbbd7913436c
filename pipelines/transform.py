"""Pass 2, first half: the exported transform applied to columns, giving them as the shards hold them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines import files, preprocessing
from pipelines.columns import Columns
from pipelines.config import ResolvedFeature
from pipelines.errors import DataError


def load_transform(directory: str) -> Any:
    """Loads an exported transform, once in each process.

    Args:
        directory: The transform's directory.

    Returns:
        The SavedModel, whose `transform_fn` maps a dict of raw tensors to one of transformed tensors.
    """
    # Another build in this process may have written another transform to the same place.
    return _load(directory, files.read_bytes(files.join(directory, "transform_fn", "fingerprint.pb")))


@functools.lru_cache(maxsize=2)
def _load(directory: str, fingerprint: bytes) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(files.join(directory, "transform_fn"))


def apply_transform(transform: Any, features: tuple[ResolvedFeature, ...], columns: Columns) -> Columns:
    """Maps raw columns to columns of the stored dtypes, little-endian.

    Args:
        transform: From `load_transform`; not used where no feature is transformed.
        features: All features.
        columns: `[rows, *shape]` for each of them, in the dtype of its sources.

    Returns:
        `[rows, *shape]` for each feature, in `spec.numpy_dtype`.

    Raises:
        DataError: If a finite float does not fit the stored dtype.
    """
    changed = tuple(feature for feature in features if feature.transformed)
    outputs = _run(transform, changed, columns) if changed else {}
    return {feature.name: _store(feature, outputs.get(feature.name, columns[feature.name])) for feature in features}


def _run(transform: Any, features: tuple[ResolvedFeature, ...], columns: Columns) -> Columns:
    import tensorflow as tf

    with tf.device("/cpu:0"):
        inputs = {
            feature.name: tf.constant(columns[feature.name].astype(preprocessing.graph_dtype(feature), copy=False))
            for feature in features
        }
        outputs = transform.transform_fn(inputs)
    result = {}
    for feature in features:
        values = outputs[preprocessing.output_name(feature)].numpy()
        if feature.spec.dtype == "float64":
            values = values.view(np.float64)
        if feature.normalize == "none":
            # Bit for bit what it was: TensorFlow takes numbers below the normal range for 0.
            raw = columns[feature.name]
            values = np.where(np.isnan(raw), values.astype(raw.dtype), raw)
        result[feature.name] = values
    return result


def _store(feature: ResolvedFeature, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Casts to the stored dtype, which only narrows floats.

    The values that a transform takes are finite, so what it gives is too, unless it overflowed. A feature that is not
    transformed keeps the infinities that it has.
    """
    dtype = feature.spec.numpy_dtype
    with np.errstate(over="ignore"):
        stored = values.astype(dtype, copy=False)
    narrowed = values.dtype.kind == "f" and dtype.itemsize < values.dtype.itemsize
    if not feature.transformed and not narrowed:
        return stored
    overflow = np.isinf(stored)
    if not feature.transformed:
        overflow &= np.isfinite(values)
    if overflow.any():
        found = f"{values[overflow][0]:g}"
        raise DataError(f"feature {feature.name}: expected values that fit {feature.spec.dtype}; found {found}")
    return stored
