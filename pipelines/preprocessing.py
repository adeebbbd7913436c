"""What tf.transform exports: imputation and normalisation as a graph, its constants made from the statistics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.config import RESERVED_SUFFIX, Constant, ResolvedFeature, Scale
from pipelines.errors import DataError
from pipelines.statistics import Statistics, impute_constant, impute_mean

if TYPE_CHECKING:
    import tensorflow as tf

F64 = npt.NDArray[np.float64]

TINY = np.finfo(np.float64).tiny
"""The least number that TensorFlow does not take for 0."""

FLOAT64_SUFFIX = RESERVED_SUFFIX
"""tf.transform's schema knows no float64, so a float64 output leaves the graph as int64 of the same bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constants:
    """What the statistics put into the graph of one feature; float64, of the statistic's shape.

    Attributes:
        fill: What replaces a missing value.
        shift: What is subtracted.
        divisor: What the difference is divided by; never 0.
    """

    fill: F64
    shift: F64
    divisor: F64


def make_constants(feature: ResolvedFeature, statistics: Statistics) -> Constants:
    """The constants of one feature.

    A constant feature is divided by 1, so it becomes 0.

    Args:
        feature: The feature.
        statistics: Its statistics over the training rows.

    Raises:
        DataError: If a statistic that is needed does not exist, because no value is present in the training rows, or
            is not finite, because the values overflow float64.
    """
    _require_values(feature, statistics)
    fill = np.zeros_like(statistics.mean)
    if isinstance(feature.impute, Constant):
        fill = np.full_like(statistics.mean, feature.impute.constant)
        statistics = impute_constant(statistics, feature.impute.constant)
    elif feature.impute == "mean":
        fill = statistics.mean
        statistics = impute_mean(statistics)
    shift, divisor = np.zeros_like(fill), np.ones_like(fill)
    if feature.normalize == "zscore":
        shift, divisor = statistics.mean, statistics.std
    elif feature.normalize == "minmax":
        shift, divisor = statistics.min, statistics.max - statistics.min
    constants = Constants(fill=fill, shift=shift, divisor=np.where(divisor < TINY, 1.0, divisor))
    for values in (constants.fill, constants.shift, constants.divisor):
        if not np.isfinite(values).all():
            raise DataError(f"feature {feature.name}: expected statistics within float64; they overflow")
    return constants


def _require_values(feature: ResolvedFeature, statistics: Statistics) -> None:
    uses_values = feature.impute == "mean" or feature.normalize in ("zscore", "minmax")
    absent = np.argwhere(statistics.count == 0)
    if not uses_values or isinstance(feature.impute, Constant) or not len(absent):
        if uses_values and not (statistics.count + statistics.missing).all():
            raise DataError(f"feature {feature.name}: expected training rows; found none")
        return
    if not statistics.missing.any():
        raise DataError(f"feature {feature.name}: expected training rows; found none")
    where = f", {feature.over} {absent[0].tolist()}" if statistics.count.ndim else ""
    raise DataError(
        f"feature {feature.name}{where}: expected a value in the training rows; found none "
        f"(all are missing; `impute: {{constant: 0}}` would fill them)"
    )


def pack(features: Sequence[ResolvedFeature], statistics: Mapping[str, Statistics]) -> F64:
    """The constants of several features as one vector, which `preprocess` takes apart.

    One vector, so that the analyzer has one output whatever the number of features.
    """
    values = [make_constants(feature, statistics[feature.name]) for feature in features]
    return np.concatenate([np.ravel(part) for value in values for part in (value.fill, value.shift, value.divisor)])


def packed_size(features: Sequence[ResolvedFeature]) -> int:
    """The length of what `pack` returns."""
    return sum(3 * math.prod(feature.statistics_shape) for feature in features)


def graph_dtype(feature: ResolvedFeature) -> np.dtype[Any]:
    """The dtype in which the graph takes a feature: Arrow and tf.transform have no float16, which float32 holds."""
    return np.dtype("float32" if feature.source_dtype == "float16" else feature.source_dtype)


def output_name(feature: ResolvedFeature) -> str:
    """The name of the graph's output for a feature."""
    return feature.name + FLOAT64_SUFFIX if feature.spec.dtype == "float64" else feature.name


def preprocess(
    inputs: Mapping[str, tf.Tensor], packed: tf.Tensor, features: Sequence[ResolvedFeature]
) -> dict[str, tf.Tensor]:
    """The graph: every value in float64 until the last step.

    Args:
        inputs: Feature name → `[batch, *shape]` in `graph_dtype`.
        packed: float64, what `pack` returned.
        features: The features that the transform changes.

    Returns:
        Output name → `[batch, *shape]`, float32, or int64 bits of float64.
    """
    import tensorflow as tf

    sizes = [math.prod(feature.statistics_shape) for feature in features for _ in range(3)]
    parts = iter(tf.split(packed, sizes))
    outputs = {}
    for feature in features:
        fill, shift, divisor = (tf.reshape(next(parts), feature.statistics_shape) for _ in range(3))
        values = tf.cast(inputs[feature.name], tf.float64)
        if feature.impute != "none":
            values = tf.where(tf.math.is_nan(values), fill, values)
        if isinstance(feature.normalize, Scale):
            values = values * tf.constant(feature.normalize.scale, tf.float64)
        elif feature.normalize != "none":
            values = (values - shift) / divisor
        if feature.spec.dtype == "float64":
            outputs[output_name(feature)] = tf.bitcast(values, tf.int64)
        else:
            outputs[output_name(feature)] = tf.cast(values, tf.float32)
    return outputs
