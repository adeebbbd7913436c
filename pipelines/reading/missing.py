"""Which values of a feature are missing: NaN, declared values, and what a mask says; in NumPy and in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format import step_formulas
from pipelines.config.resolved import ResolvedFeature
from pipelines.lazy import tf
from pipelines.reading.batches import Columns, masked_values, values_of


def marked_dtype(feature: ResolvedFeature) -> str:
    """The dtype of what `marked` returns: float64 for integers of which some are missing."""
    if feature.declares_missing and not feature.source_dtype.startswith("float"):
        return "float64"
    return feature.source_dtype


def filled(feature: ResolvedFeature, fill: npt.NDArray[Any], columns: Columns) -> npt.NDArray[Any]:
    """The values of a feature of integers, the missing ones filled, in the dtype of the sources."""
    values = values_of(columns[feature.name])
    return np.where(_absent(feature, values, columns), fill.astype(values.dtype), values)


def marked(feature: ResolvedFeature, columns: Columns) -> npt.NDArray[Any]:
    """The values of a feature with NaN for each that is missing; `columns` has the feature and its mask.

    Returns:
        `[rows, *shape]` in `marked_dtype`; of rows with lengths of their own, all steps one after the other.
    """
    values = values_of(columns[feature.name])
    if not feature.declares_missing:
        return values
    absent = _absent(feature, values, columns)
    return np.where(absent, np.array(np.nan, marked_dtype(feature)), values.astype(marked_dtype(feature), copy=False))


def _absent(feature: ResolvedFeature, values: npt.NDArray[Any], columns: Columns) -> npt.NDArray[np.bool_]:
    absent = np.zeros(values.shape, np.bool_)
    for value in representable(feature):
        absent |= values == values.dtype.type(value)
    if feature.mask is not None:
        absent |= masked_values(columns, feature.mask, values)
    return absent


def representable(feature: ResolvedFeature) -> tuple[float, ...]:
    """The declared values as the dtype of the sources has them, without those that it has not."""
    return step_formulas.representable(feature.missing, np.dtype(feature.source_dtype))


def missing_in_graph(feature: ResolvedFeature, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
    """Which values are missing, as `_absent` and NaN say; None where none can be."""
    values = inputs[feature.name]
    absent = tf.math.is_nan(values) if values.dtype.is_floating else None
    if not feature.declares_missing:
        return absent
    absent = tf.zeros_like(values, tf.bool) if absent is None else absent
    for value in representable(feature):
        number = value if values.dtype.is_floating else int(value)
        absent |= tf.equal(values, tf.constant(number, values.dtype))
    if feature.mask is not None:
        flags = tf.not_equal(inputs[feature.mask], 0)
        for _ in range(values.shape.rank - flags.shape.rank):
            flags = flags[..., None]
        absent |= flags
    return absent
