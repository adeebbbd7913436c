"""Values changed by what is learned of all rows: filled, scaled, cut, ranked, projected.

Each function is a step of a feature's transform (`pipelines.steps`): what it learns and its graph exist once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from pipelines.analyzers.coding import Arrays
from pipelines.analyzers.engine import Subject, learn
from pipelines.analyzers.tensors import (
    Missing,
    Tensors,
    flatten,
    keys_of_groups,
    mark,
    of_groups,
    output_dtype,
    value_of,
)
from pipelines.statistics.estimators import Estimator
from pipelines.statistics.groups import GroupsAndAll
from pipelines.statistics.summary import Over
from pipelines.steps import graph_ops, projection, ranking, scaling
from pipelines.steps.encoding import Vocabulary
from pipelines.steps.methods import IMPUTE
from pipelines.steps.options import read_step
from pipelines.steps.step import MomentStep, Shape, Step, Value


def scale_to_z_score(
    x: Tensors,
    *,
    over: Over = "element",
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """(x - mean) / std, of the population of the present values, in float64.

    `tft.scale_to_z_score` pools all elements unless `elementwise=True`, works in float32, and one NaN makes all its
    results NaN.

    Args:
        x: Numbers `[batch, *shape]`; a mapping or a sequence of tensors is one analyzer. NaN is missing and stays NaN.
        over: What shares one statistic: each `element` alone, the elements of one index of the last axis (`channel`),
            `all`, or the elements of one index of the given axes of a row.
        by: One integer, bool or string a row: each of its values has statistics of its own. Rows of groups that were
            not seen, or without a present value, are scaled by the statistics of all rows.
        missing: What else is missing: numbers, or a bool tensor like `x`; it becomes NaN.
        dtype: What results are rounded to; None for float64 of float64 and float32 otherwise. tf.transform can write
            float32, not float64.

    Returns:
        `[batch, *shape]`. A constant becomes 0 (its deviation counts as 1); where no value was present, NaN.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: In the analysis, if values are infinite or their statistics overflow float64.
    """
    return _mapped("scale_to_z_score", x, scaling.ZScore(), over=over, by=by, missing=missing, dtype=dtype)


def scale_to_min_max(
    x: Tensors,
    low: float = 0.0,
    high: float = 1.0,
    *,
    over: Over = "element",
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """Scales the present values to low + (high - low) * (x - min) / (max - min), in float64.

    A constant becomes `low`; `tft.scale_to_0_1` makes sigmoid(x) of it. Values to come may lie outside.

    Args:
        x: As in `scale_to_z_score`.
        low: What the least value becomes.
        high: What the greatest value becomes.
        over: As in `scale_to_z_score`, as all that follow.
        by: Groups.
        missing: What else is missing.
        dtype: Of the results.

    Returns:
        `[batch, *shape]`.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: As `scale_to_z_score`.
    """
    step = read_step(scaling.MinMax, [low, high])
    return _mapped("scale_to_min_max", x, step, over=over, by=by, missing=missing, dtype=dtype)


def scale_by_max_abs(
    x: Tensors,
    *,
    over: Over = "element",
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """Scales to x / max(abs(x)) of the present values, in float64: zeros stay. Arguments as in `scale_to_z_score`.

    tf.transform has no such mapper.
    """
    return _mapped("scale_by_max_abs", x, scaling.MaxAbs(), over=over, by=by, missing=missing, dtype=dtype)


def scale_robust(x: Tensors, *, over: Over = "element", missing: Missing = None, dtype: tf.DType | None = None) -> Any:
    """(x - median) / (q75 - q25), of the exact quantiles of the present values; a range of 0 counts as 1.

    Takes the phases of `quantiles`; arguments as in `scale_to_z_score`. tf.transform has no such mapper.
    """
    return _mapped("scale_robust", x, ranking.Robust(), over=over, missing=missing, dtype=dtype)


def clip(
    x: Tensors,
    low: float = 0.01,
    high: float = 0.99,
    *,
    over: Over = "element",
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """min(max(x, quantile(low)), quantile(high)), of the exact quantiles of the present values; NaN stays NaN.

    Args:
        x: As in `scale_to_z_score`.
        low: A probability.
        high: A greater probability.
        over: As in `scale_to_z_score`, as all that follow.
        missing: What else is missing.
        dtype: Of the results.

    Returns:
        `[batch, *shape]`.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: As `scale_to_z_score`.
    """
    step = read_step(ranking.Clip, [low, high])
    return _mapped("clip", x, step, over=over, missing=missing, dtype=dtype)


def quantile_transform(
    x: Tensors,
    to: Literal["uniform", "normal"] = "uniform",
    *,
    over: Over = "element",
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """The place of a value among all values in [0, 1], or as a normal deviate: scikit-learn's QuantileTransformer.

    Linear between 1,000 exact quantiles; an often repeated value has the middle of its places. `tft.scale_to_gaussian`
    fits a Tukey HH distribution instead.

    Args:
        x: As in `scale_to_z_score`; NaN stays NaN.
        to: `uniform` or `normal`.
        over: As in `scale_to_z_score`, as all that follow.
        missing: What else is missing.
        dtype: Of the results.

    Returns:
        `[batch, *shape]`. A constant becomes 0 (uniform), as what is at or below the least value.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: As `scale_to_z_score`.
    """
    step = read_step(ranking.Quantile, to)
    return _mapped("quantile_transform", x, step, over=over, missing=missing, dtype=dtype)


def bucketize(x: Tensors, buckets: int | Sequence[float], *, over: Over = "element", missing: Missing = None) -> Any:
    """The number of a value's bucket, int64 from 0: of equally frequent buckets, or between boundaries.

    A value that equals a boundary is in the bucket above it. `tft.bucketize` finds approximate boundaries of all
    elements together; NaN is in its last bucket.

    Args:
        x: Numbers `[batch, *shape]`, one or several tensors.
        buckets: How many, whose boundaries are exact quantiles (as many phases as `quantiles`), or boundaries.
        over: As in `scale_to_z_score`.
        missing: What else is missing.

    Returns:
        int64 `[batch, *shape]`; -1 for what is missing.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: As `scale_to_z_score`.
    """
    step = read_step(ranking.Buckets, buckets if isinstance(buckets, int) else list(buckets))
    return _mapped("bucketize", x, step, over=over, missing=missing, dtype=tf.int64, absent=-1)


def pca(x: Tensors, components: int, *, dtype: tf.DType | None = None) -> Any:
    """The first principal components of the last axis, of float64 covariances that are exact: one phase.

    (x - mean) @ components.T; signs as in scikit-learn's PCA: the entry of the largest magnitude is positive. Where
    rows have several axes, every vector along the last one counts. `tft.pca` gives a matrix, of covariances in float32
    that it does not centre `x` by.

    Args:
        x: Numbers `[batch, ..., width]`, finite, none missing.
        components: How many, at most `width`.
        dtype: As in `scale_to_z_score`.

    Returns:
        `[batch, ..., components]`.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: In the analysis, if a value is missing or infinite.
    """
    return _mapped("pca", x, read_step(projection.Pca, components), over="channel", dtype=dtype)


def whiten(x: Tensors, components: int, *, dtype: tf.DType | None = None) -> Any:
    """As `pca`, each component divided by its deviation (with n - 1 in the divisor, as scikit-learn has it)."""
    return _mapped("whiten", x, read_step(projection.Whiten, components), over="channel", dtype=dtype)


def vocabulary(x: Tensors, *, size: int | None = None, min_count: int = 1, oov_buckets: int = 1) -> Any:
    """The rank of a string or integer among the training values: the most frequent first, then in ascending order.

    As `tft.compute_and_apply_vocabulary`, but for: the order of equally frequent values (there descending), values
    that were not seen (there -1 unless `num_oov_buckets` says otherwise), and where values are held (here in memory of
    each worker that counts, at most 4 million; a worker that transforms holds 63-bit hashes).

    Args:
        x: Integers or strings `[batch, *shape]`, one or several tensors; each has a vocabulary of its own.
        size: How many values to keep; None for all.
        min_count: How often a value must occur.
        oov_buckets: How many numbers, from the size on, other values are hashed to; with 0 they get -1.

    Returns:
        int64 `[batch, *shape]`.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: In the analysis, if there is no value, or too many.
    """
    step = Vocabulary(size=size, min_count=min_count, oov_buckets=oov_buckets)
    labels, tensors, back = flatten(x, "vocabulary")
    if any(not (tensor.dtype.is_integer or tensor.dtype == tf.string) for tensor in tensors):
        raise ValueError(f"vocabulary: expected integers or strings; found {[t.dtype.name for t in tensors]}")
    subjects = [_subject(label, step, value_of(t, "all"), None) for label, t in zip(labels, tensors, strict=True)]
    found = learn(subjects, tensors, None, name="vocabulary")
    return back([step.apply(tensor, own) for tensor, own in zip(tensors, found, strict=True)])


def missing_indicator(x: Tensors, *, missing: Missing = None) -> Any:
    """1 where a value is missing and 0 elsewhere, int64 `[batch, *shape]`; nothing is learned.

    Args:
        x: Numbers, one or several tensors. NaN is missing.
        missing: What else is missing: numbers, or a bool tensor like `x`.

    Raises:
        ValueError: If the arguments do not fit.
    """
    _, tensors, back = flatten(x, "missing_indicator")
    found = []
    for tensor in tensors:
        _, absent = mark(tensor, missing)
        found.append(tf.zeros_like(tensor, tf.int64) if absent is None else tf.cast(absent, tf.int64))
    return back(found)


def impute(
    x: Tensors,
    method: str | float = "mean",
    *,
    over: Over = "element",
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """Values with the missing ones replaced by what the present ones tell; present values stay, bit for bit.

    tf.transform has no such mapper: `tf.where(tf.math.is_nan(x), tft.mean(x), x)` fills with NaN, as its mean of NaN
    is NaN.

    Args:
        x: Numbers `[batch, *shape]`; a mapping or a sequence of tensors is one analyzer. NaN is missing.
        method: `mean`, `median`, `most_frequent`, `min`, `max`, `zero`, `regression` (the conditional mean of a
            Gaussian, given the row's present elements), or a number. Exact, as `moments`, `quantiles` and
            `most_frequent`; the median takes the phases of `quantiles`, others one, a number none.
        over: As in `scale_to_z_score`. Not for `regression`, which takes a row's elements together.
        by: As in `scale_to_z_score`, for `mean`, `min` and `max`.
        missing: As in `scale_to_z_score`.
        dtype: Of the result; None for that of `x`, and float32 for integers filled with what may be none.

    Returns:
        `[batch, *shape]`.

    Raises:
        ValueError: If the arguments do not fit.
        DataError: In the analysis, if a statistic has no present value, values are infinite, or statistics overflow.
    """
    step = _imputation(method)
    labels, tensors, back = flatten(x, "impute")
    keys = keys_of_groups(by)
    marked = [mark(tensor, missing) for tensor in tensors]
    values = [value_of(found, over) for found, _ in marked]
    if isinstance(method, str) and method != "zero":
        subjects = [
            _subject(label, step, value, keys, complete=True) for label, value in zip(labels, values, strict=True)
        ]
        learned = _learned("impute", subjects, [found for found, _ in marked], keys)
    else:
        fill = 0.0 if isinstance(method, str) else float(method)
        learned = [{"fill": tf.constant(fill, tf.float64)} for _ in tensors]
    return back(
        [
            _filled(step, tensor, found, absent, constants, dtype)
            for tensor, (found, absent), constants in zip(tensors, marked, learned, strict=True)
        ]
    )


def _imputation(method: str | float) -> Step:
    if not isinstance(method, str):
        return read_step(IMPUTE["constant"], float(method))
    if method not in IMPUTE or method == "constant":
        known = ", ".join(name for name in IMPUTE if name != "constant")
        raise ValueError(f"impute: expected {known} or a number; found {method!r}")
    return read_step(IMPUTE[method])


def _filled(
    step: Step,
    x: tf.Tensor,
    marked: tf.Tensor,
    absent: tf.Tensor | None,
    constants: Mapping[str, tf.Tensor],
    dtype: tf.DType | None,
) -> tf.Tensor:
    """Values with the missing ones filled, in the dtype of the present ones where that holds what is filled in."""
    holds = x.dtype.is_floating or (x.dtype.is_integer and step.keeps_integers(x.dtype.name))
    own = x.dtype if holds or absent is None else tf.float32
    wanted = own if dtype is None else tf.dtypes.as_dtype(dtype)
    if absent is None:  # integers, none of which is declared to be missing
        return tf.cast(x, wanted)
    if not step.fills:
        return tf.cast(step.apply(step.cast(marked), constants), wanted)
    if holds and wanted == x.dtype:
        return tf.where(absent, tf.cast(constants["fill"], x.dtype), x)
    return tf.cast(tf.where(absent, constants["fill"], tf.cast(x, tf.float64)), wanted)


def _mapped(
    name: str,
    x: Tensors,
    step: Step,
    *,
    over: Over,
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
    absent: int | None = None,
) -> Any:
    """What a step makes of tensors, after it has learned from all rows.

    Args:
        name: The name of the function.
        x: The tensors.
        step: The step.
        over: What shares one statistic.
        by: The groups.
        missing: What is missing besides NaN.
        dtype: Of the results.
        absent: What a missing value becomes, where the step's graph makes nothing of it.
    """
    labels, tensors, back = flatten(x, name)
    keys = keys_of_groups(by)
    marked = [mark(tensor, missing) for tensor in tensors]
    values = [value_of(found, over) for found, _ in marked]
    for label, value in zip(labels, values, strict=True):
        _check_output(label, step, value)
    if step.estimator(values[0]) is None:
        learned = [_said(step, value, found) for value, (found, _) in zip(values, marked, strict=True)]
    else:
        subjects = [_subject(label, step, value, keys) for label, value in zip(labels, values, strict=True)]
        learned = _learned(name, subjects, [found for found, _ in marked], keys)
    results = []
    for tensor, (found, gone), constants in zip(tensors, marked, learned, strict=True):
        result = tf.cast(step.apply(step.cast(found), constants), output_dtype(tensor, dtype))
        if absent is not None and gone is not None:
            result = tf.where(gone, tf.constant(absent, result.dtype), result)
        results.append(result)
    return back(results)


def _said(step: Step, value: Value, like: tf.Tensor) -> dict[str, tf.Tensor]:
    """The constants of a step that learns nothing, of which TensorFlow does not know that they are constants."""
    constants = step.fit({}, value)
    return {
        name: tf.reshape(graph_ops.unfolded(tf.constant(array.ravel(), tf.float64), like=like), array.shape)
        for name, array in constants.items()
    }


def _learned(
    name: str, subjects: list[Subject], values: list[tf.Tensor], keys: tf.Tensor | None
) -> list[dict[str, tf.Tensor]]:
    """The constants of each subject, those of each row's group where there are groups."""
    found = learn(subjects, values, keys, name=name)
    return found if keys is None else [of_groups(own, keys) for own in found]


def _check_output(label: str, step: Step, value: Value) -> None:
    try:
        step.output(value)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _subject(label: str, step: Step, value: Value, keys: tf.Tensor | None, *, complete: bool = False) -> Subject:
    """What a step learns of a tensor.

    Args:
        label: What the tensor is called.
        step: The step.
        value: What the step takes.
        keys: The keys of groups, or None.
        complete: Whether each statistic needs a present value.
    """
    shapes: dict[str, Shape] = step.shapes(value)
    if keys is not None:
        if not isinstance(step, MomentStep):
            raise ValueError(f"{label}: expected no `by`: it is for what moments tell, not for {step.key}")
        shapes = {"keys": (None,), **{constant: (None, *shape) for constant, shape in shapes.items()}}
    integers = step.integers | {"keys"} if keys is not None else step.integers
    return Subject(
        label=label,
        dtype=value.dtype,
        shape=value.shape,
        estimator=_estimator(step, value, keys),
        finish=functools.partial(fit, step, value, complete),
        outputs=tuple((constant, constant in integers, shape) for constant, shape in shapes.items()),
        grouped=keys is not None,
    )


def _estimator(step: Step, value: Value, keys: tf.Tensor | None) -> Estimator:
    if keys is not None:
        return GroupsAndAll(shape=value.shape, over=value.over)
    estimator = step.estimator(value)
    assert estimator is not None, "what learns nothing is no subject"
    return estimator


def fit(step: Step, value: Value, complete: bool, result: Arrays) -> Arrays:
    """The constants of a step, from the result of its estimator.

    Args:
        step: The step.
        value: What it takes.
        complete: Whether each statistic needs a present value; otherwise its constants are NaN.
        result: The result.

    Raises:
        ValueError: If values are infinite, statistics overflow, or there is no value where one is needed.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        constants = step.fit(result, value)
    floats = [array for array in constants.values() if array.dtype.kind == "f"]
    if complete and any(np.isnan(array).any() for array in floats):
        where = np.argwhere(np.isnan(floats[0]))
        raise ValueError(f"expected a value in the training rows; found none at {where[:1].tolist()}")
    present = value.broadcast(result["count"]) > 0 if isinstance(step, MomentStep) else np.False_
    if any((np.isinf(array) | (np.isnan(array) & present)).any() for array in floats):
        raise ValueError("expected finite values whose statistics are within float64; found others")
    return dict(constants) | ({"keys": result["keys"]} if "keys" in result and "keys" not in constants else {})
