"""Statistics of all rows as tensors: moments, quantiles, frequencies, covariances."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.analyzers.engine import run_passes
from pipelines.analyzers.tensors import Missing, Tensors, flatten, keys_of_groups, mark_all, value_of
from pipelines.statistics.covariance import Covariance
from pipelines.statistics.estimators import Estimator
from pipelines.statistics.frequencies import Frequencies
from pipelines.statistics.frequencies import most_frequent as most_frequent_of
from pipelines.statistics.groups import GroupsAndAll
from pipelines.statistics.passes import Arrays, Subject
from pipelines.statistics.summary import ColumnMoments, Over, statistics_shape
from pipelines.steps.step import ValueSpec

FIELDS = ("count", "missing", "min", "max", "mean", "std")
INTEGERS = ("count", "missing")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """The moments of a tensor's present values, one for each statistic.

    Attributes:
        count: How many values are present, int64.
        missing: How many are missing, int64.
        min: The least value, float64; NaN where no value is present, as all that follow.
        max: The greatest value, float64.
        mean: The mean, float64: the number nearest to the exact one.
        std: The standard deviation of the population, float64: the root of the variance nearest to the exact one.
    """

    count: tf.Tensor
    missing: tf.Tensor
    min: tf.Tensor
    max: tf.Tensor
    mean: tf.Tensor
    std: tf.Tensor


def moments(x: Tensors, *, over: Over = "element", by: tf.Tensor | None = None, missing: Missing = None) -> Any:
    """Count, missing, least, greatest, mean and deviation of the present values, in one pass.

    mean = sum(x) / n and std = sqrt(sum((x - mean)**2) / n), of exact sums: neither the cut into batches nor the order
    of rows changes a bit. `tft.mean` and `tft.var` disregard NaN too, and infinities; they work in the dtype of the
    values, and their results may differ in the last digits from run to run.

    Args:
        x: Numbers `[batch, *shape]`; a mapping or a sequence of tensors is one analyzer. NaN is missing. An infinity
            makes the mean infinite or NaN, and the deviation NaN.
        over: What shares one statistic: each `element` alone, the elements of one index of the last axis (`channel`),
            `all`, or the elements of one index of the given axes of a row.
        by: One integer, bool or string a row: each of its values has statistics of its own. Groups without a present
            value, and in rows to come those that were not seen, have the statistics of all rows.
        missing: What else is missing: numbers, or a bool tensor like `x`.

    Returns:
        `Moments` of the statistic's shape: `shape` over `element`, `[channels]` over `channel`, `[]` over `all`. With
        `by`, those of each row's group: `[batch, ...]`. Constants have a deviation of 0; without a present value, or
        without rows, the count is 0 and what is float64 is NaN.

    Raises:
        ValueError: If the arguments do not fit.
    """
    keys = keys_of_groups(by)

    def ask(value: ValueSpec) -> _Asked:
        shape = statistics_shape(over, value.shape)
        if keys is None:
            return ColumnMoments(over=over), tuple((name, name in INTEGERS, shape) for name in FIELDS), dict
        outputs = ((name, name in INTEGERS, (None, *shape)) for name in FIELDS)
        return GroupsAndAll(shape=value.shape, over=over), (("keys", True, (None,)), *outputs), dict

    return _statistic("moments", x, ask, over=over, missing=missing, keys=keys, pick=lambda own: Moments(**own))


def mean(x: Tensors, *, over: Over = "element", by: tf.Tensor | None = None, missing: Missing = None) -> Any:
    """The mean of the present values, float64, as `moments` has it."""
    return _one_moment("mean", x, over=over, by=by, missing=missing)


def std(x: Tensors, *, over: Over = "element", by: tf.Tensor | None = None, missing: Missing = None) -> Any:
    """The deviation of the population of the present values, float64, as `moments` has it."""
    return _one_moment("std", x, over=over, by=by, missing=missing)


def var(x: Tensors, *, over: Over = "element", by: tf.Tensor | None = None, missing: Missing = None) -> Any:
    """The variance of the population of the present values, float64: the square of the deviation of `moments`.

    A variance beyond float64 is infinite.
    """
    _, _, back = flatten(x, "var")
    return back([tf.square(own) for own in _listed(_one_moment("std", x, over=over, by=by, missing=missing))])


def min(x: Tensors, *, over: Over = "element", by: tf.Tensor | None = None, missing: Missing = None) -> Any:
    """The least of the present values, float64, as `moments` has it; NaN where none is present.

    `tft.min` is NaN where one of the values is.
    """
    return _one_moment("min", x, over=over, by=by, missing=missing)


def max(x: Tensors, *, over: Over = "element", by: tf.Tensor | None = None, missing: Missing = None) -> Any:
    """The greatest of the present values, float64, as `moments` has it; NaN where none is present.

    `tft.max` is NaN where one of the values is.
    """
    return _one_moment("max", x, over=over, by=by, missing=missing)


def _one_moment(field: str, x: Tensors, **options: Any) -> Any:
    _, _, back = flatten(x, field)
    return back([getattr(own, field) for own in _listed(moments(x, **options))])


def _listed(found: Any) -> list[Any]:
    return list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else [found]


def quantiles(x: Tensors, probabilities: Sequence[float], *, over: Over = "element", missing: Missing = None) -> Any:
    """Quantiles of the present values, exact: what `np.nanquantile` gives of float64 values, with its linear method.

    Values are counted by their bits, up to 16 a pass, and each pass is a phase: the rows are read again. Integers of 8
    bits take one, float32 two and float64 four, more where there are thousands of statistics. `tft.quantiles` gives
    approximate boundaries in one phase, which differ with the order of the rows, and knows no axes.

    Args:
        x: Numbers, as in `moments`. Infinities are values like others.
        probabilities: Each in [0, 1].
        over: As in `moments`.
        missing: As in `moments`.

    Returns:
        float64 `[len(probabilities), *statistic's shape]`; NaN where no value is present.

    Raises:
        ValueError: If the arguments do not fit.
    """
    wanted = tuple(float(probability) for probability in probabilities)

    def ask(value: ValueSpec) -> _Asked:
        shape = (len(wanted), *statistics_shape(over, value.shape))
        return value.quantiles(*wanted), (("quantiles", False, shape),), dict

    return _statistic("quantiles", x, ask, over=over, missing=missing, pick=operator.itemgetter("quantiles"))


def median(x: Tensors, *, over: Over = "element", missing: Missing = None) -> Any:
    """The median of the present values, float64: of an even number, the mean of the middle two. As `quantiles`."""
    _, _, back = flatten(x, "median")
    return back([own[0] for own in _listed(quantiles(x, (0.5,), over=over, missing=missing))])


def frequencies(x: tf.Tensor, *, limit: int = 65536, missing: Missing = None) -> tuple[tf.Tensor, tf.Tensor]:
    """The distinct present values of a tensor and how often each occurs, in one pass; -0 is 0.

    Args:
        x: Numbers `[batch, *shape]`; NaN is missing. `vocabulary` takes strings.
        limit: The most distinct values: they are held in memory.
        missing: As in `moments`.

    Returns:
        The values, ascending, int64 of integers and float64 of floats, `[n]`, and their counts, int64 `[n]`. Both are
        empty without a present value.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: While rows are read, if there are more distinct values.
    """

    def ask(value: ValueSpec) -> _Asked:
        outputs = ("values", not value.dtype.startswith("float"), (None,)), ("counts", True, (None,))
        estimator = Frequencies(shape=value.shape, over="all", limit=limit)
        return estimator, outputs, functools.partial(_distinct, value.dtype)

    pick = operator.itemgetter("values", "counts")
    values, counts = _statistic("frequencies", x, ask, over="all", missing=missing, pick=pick)
    return values, counts


def _distinct(dtype: str, result: Arrays) -> Arrays:
    """The result of `Frequencies`; without a value it has no dtype of its own."""
    return {"values": result["values"].astype(dtype), "counts": result["counts"]}


def most_frequent(x: Tensors, *, over: Over = "element", limit: int = 65536, missing: Missing = None) -> Any:
    """The most frequent of the present values, the least of those that are equally frequent, in one pass.

    Args:
        x: Numbers, as in `moments`.
        over: As in `moments`.
        limit: The most distinct values of one statistic: they are held in memory.
        missing: As in `moments`.

    Returns:
        float64 of the statistic's shape (integers beyond 2**53 are rounded); NaN where no value is present.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: While rows are read, if there are more distinct values.
    """

    def ask(value: ValueSpec) -> _Asked:
        estimator = Frequencies(shape=value.shape, over=over, limit=limit)
        return estimator, (("value", False, statistics_shape(over, value.shape)),), _most_frequent

    return _statistic("most_frequent", x, ask, over=over, missing=missing, pick=operator.itemgetter("value"))


def _most_frequent(result: Arrays) -> Arrays:
    floats = {"values": result["values"].astype(np.float64), "counts": result["counts"]}
    return {"value": most_frequent_of(floats)}


def covariance(x: Tensors, *, missing: Missing = None) -> Any:
    """The covariances of the last axis' elements, exact in one pass; each leading axis of a row is an observation.

    cov[i, j] = mean(x_i * x_j) - mean(x_i) * mean(x_j), of the population of the observations where both are present,
    rounded once. `tft.covariance` takes rows of one axis, works in the dtype that is asked for, and one NaN makes all
    of it NaN.

    Args:
        x: Numbers `[batch, ..., width]`, finite or NaN (missing).
        missing: As in `moments`.

    Returns:
        float64 `[width, width]`; NaN where no observation has both elements.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: While rows are read, if a value is infinite.
    """

    def ask(value: ValueSpec) -> _Asked:
        width = value.shape[-1]
        return Covariance(width=width), (("covariance", False, (width, width)),), dict

    return _statistic("covariance", x, ask, over="channel", missing=missing, pick=operator.itemgetter("covariance"))


_Asked = tuple[Estimator, tuple[tuple[str, bool, tuple[int | None, ...]], ...], Callable[[Arrays], Arrays]]
"""Of a `Subject` the estimator, the outputs, and what makes these of its result."""


def _statistic(
    name: str,
    x: Tensors,
    ask: Callable[[ValueSpec], _Asked],
    *,
    over: Over,
    missing: Missing,
    keys: tf.Tensor | None = None,
    pick: Callable[[dict[str, tf.Tensor]], Any],
) -> Any:
    """What is picked of what an analyzer learns of each tensor, in the form of the argument."""
    labels, tensors, back = flatten(x, name)
    marked = [found for found, _ in mark_all(labels, tensors, missing)]
    subjects = []
    for label, tensor in zip(labels, marked, strict=True):
        value = value_of(tensor, over)
        estimator, outputs, finish = ask(value)
        subjects.append(
            Subject(
                label=label,
                dtype=value.dtype,
                shape=value.shape,
                estimator=estimator,
                finish=finish,
                outputs=outputs,
                grouped=keys is not None,
            )
        )
    return back([pick(own) for own in run_passes(subjects, marked, keys, name=name)])
