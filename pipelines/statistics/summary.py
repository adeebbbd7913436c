"""Statistics of features: what shares one, moments of rows, and what follows from them in closed form."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.statistics.estimators import OnePass
from pipelines.statistics.exact import F64, I64
from pipelines.statistics.moments import Moments, column_moments, merge

__all__ = ["F64", "I64", "Moments", "Over", "Statistics", "impute", "merge", "moments", "summarize"]


Over = Literal["element", "channel", "all"] | tuple[int, ...]
"""What shares one statistic: each `element` alone, the elements of one index of the last axis (`channel`), `all`, or
the elements of one index of the given axes of a row, which may be negative."""


def statistics_axes(over: Over, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a row along which statistics differ: sorted, not negative.

    Raises:
        ValueError: If an axis does not exist or is named twice.
    """
    if over == "element":
        return tuple(range(len(shape)))
    axes = (-1,) if over == "channel" else () if over == "all" else over
    if any(not -len(shape) <= axis < len(shape) for axis in axes):
        raise ValueError(f"over: expected axes of a row of shape {shape}; found {over!r}")
    found = tuple(sorted(axis % len(shape) for axis in axes))
    if len(set(found)) < len(found):
        raise ValueError(f"over: expected each axis once; found {over!r} for a row of shape {shape}")
    return found


def statistics_shape(over: Over, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a statistic: the sizes of its axes, in their order; errors are those of `statistics_axes`."""
    return tuple(shape[axis] for axis in statistics_axes(over, shape))


def broadcast_shape(over: Over, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which a statistic broadcasts against a row: 1 for each axis that it has not; errors likewise."""
    axes = statistics_axes(over, shape)
    return tuple(size if axis in axes else 1 for axis, size in enumerate(shape))


def as_columns(values: npt.NDArray[Any], over: Over) -> npt.NDArray[Any]:
    """Values `[rows, *shape]` as a matrix with a column for each statistic; a copy only where these axes are not last.

    Returns:
        `[rows * (elements that share a statistic), statistics]`, each row's values together.
    """
    axes = [1 + axis for axis in statistics_axes(over, values.shape[1:])]
    pooled = [axis for axis in range(1, values.ndim) if axis not in axes]
    rows, width = (math.prod(values.shape[axis] for axis in some) for some in ([0, *pooled], axes))
    return values.transpose(0, *pooled, *axes).reshape(rows, width)


def moments(values: npt.NDArray[Any], over: Over) -> Moments:
    """The moments, of `statistics_shape`, of some rows: `[rows, *shape]`, bool, integer or float; NaN is missing."""
    return column_moments(as_columns(values, over)).reshape(*statistics_shape(over, values.shape[1:]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """The statistics of one feature over the training rows.

    Attributes:
        count: How many values are present; int64, of the statistic's shape, as all of these.
        missing: How many are missing.
        min: The least value; NaN where none is present, as all that follow.
        max: The greatest value.
        mean: The mean.
        std: The standard deviation of the population (divided by the count, as NumPy and scikit-learn do).
    """

    count: I64
    missing: I64
    min: F64
    max: F64
    mean: F64
    std: F64

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The statistics by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def summarize(values: Moments) -> Statistics:
    """Rounds moments to statistics: mean and variance are the float64 nearest to the exact ones."""
    known = values.count > 0
    mean, std = values.mean_and_std
    return Statistics(
        count=values.count,
        missing=values.missing,
        min=np.where(known, values.low, np.nan),
        max=np.where(known, values.high, np.nan),
        mean=mean,
        std=std,
    )


def impute(statistics: Statistics, fill: npt.ArrayLike) -> Statistics:
    """The statistics after every missing value has been replaced by `fill`, float64 of their shape, in closed form."""
    fill = np.broadcast_to(np.asarray(fill, dtype=np.float64), statistics.mean.shape)
    count, missing = statistics.count.astype(np.float64), statistics.missing.astype(np.float64)
    rows = np.maximum(count + missing, 1.0)
    known = statistics.count > 0
    mean, std = np.where(known, statistics.mean, 0.0), np.where(known, statistics.std, 0.0)
    present, absent = count / rows, missing / rows
    filled = statistics.missing > 0
    with np.errstate(over="ignore", invalid="ignore"):  # who uses an overflowed statistic finds it not finite
        new_mean = np.where(known, mean + (fill - mean) * absent, fill)
        new_std = np.hypot(std * np.sqrt(present), np.sqrt(present * absent) * (mean - fill))
    return Statistics(
        count=statistics.count + statistics.missing,
        missing=np.zeros_like(statistics.missing),
        min=np.where(filled, np.fmin(statistics.min, fill), statistics.min),
        max=np.where(filled, np.fmax(statistics.max, fill), statistics.max),
        mean=np.where(filled, new_mean, statistics.mean),
        std=np.where(filled, np.where(known, new_std, 0.0 * fill), statistics.std),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnMoments(OnePass):
    """The moments of a feature's values; the result has `count`, `missing`, `min`, `max`, `mean` and `std`."""

    over: Over

    def start(self) -> None:
        return None

    def accumulate(self, state: Moments | None, values: npt.NDArray[Any]) -> Moments:
        return moments(values, self.over)

    def merge(self, a: Moments | None, b: Moments) -> Moments:
        return b if a is None else merge(a, b)

    def result(self, state: Moments) -> dict[str, npt.NDArray[Any]]:
        return summarize(state).arrays()
