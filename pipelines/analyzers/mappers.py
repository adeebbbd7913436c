"""Values changed by what is learned of all rows: filled, scaled, cut, ranked, projected.

Each function is a step of a feature's transform (`pipelines.steps`): what it learns and its graph exist once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import tensorflow as tf

from pipelines.analyzers.engine import run_passes
from pipelines.analyzers.fitting import mapped, subject_of
from pipelines.analyzers.recorded_calls import note_step
from pipelines.analyzers.tensors import Missing, Tensors, flatten, keys_of_groups, mark_all, value_of
from pipelines.statistics.summary import Over
from pipelines.steps import projection, ranking, scaling
from pipelines.steps.encoding import Vocabulary
from pipelines.steps.imputation import Constant
from pipelines.steps.methods import IMPUTE, NORMALIZE, parse_step
from pipelines.steps.options import read_step
from pipelines.steps.step import Step


def scale_to_z_score(
    x: Tensors,
    *,
    over: Over = "element",
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """(x - mean) / std, of the population of the present values, in float64.

    `tft.scale_to_z_score` pools all elements unless `elementwise=True`, and works in float32; it disregards NaN too,
    and infinities.

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
    return mapped(x, scaling.ZScore(), over=over, by=by, missing=missing, dtype=dtype)


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

    A constant becomes `low`; `tft.scale_to_0_1` makes sigmoid(x) of it, and of whatever NaN is among. Values to come
    may lie outside.

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
    return mapped(x, read_step(scaling.MinMax, [low, high]), over=over, by=by, missing=missing, dtype=dtype)


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
    return mapped(x, scaling.MaxAbs(), over=over, by=by, missing=missing, dtype=dtype)


def scale_robust(x: Tensors, *, over: Over = "element", missing: Missing = None, dtype: tf.DType | None = None) -> Any:
    """(x - median) / (q75 - q25), of the exact quantiles of the present values; a range of 0 counts as 1.

    Takes the phases of `quantiles`; arguments as in `scale_to_z_score`. tf.transform has no such mapper.
    """
    return mapped(x, ranking.Robust(), over=over, missing=missing, dtype=dtype)


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
    return mapped(x, read_step(ranking.Clip, [low, high]), over=over, missing=missing, dtype=dtype)


def quantile_transform(
    x: Tensors,
    to: Literal["uniform", "normal"] = "uniform",
    *,
    over: Over = "element",
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """The place of a value among all values in [0, 1], or as a normal deviate: scikit-learn's QuantileTransformer.

    Linear between 1,000 exact quantiles, or as many as there are values; an often repeated value has the middle of its
    places. `tft.scale_to_gaussian` fits a Tukey HH distribution instead.

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
    return mapped(x, read_step(ranking.Quantile, to), over=over, missing=missing, dtype=dtype)


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
    return mapped(x, step, over=over, missing=missing)


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
    return mapped(x, read_step(projection.Pca, components), over="channel", dtype=dtype)


def whiten(x: Tensors, components: int, *, dtype: tf.DType | None = None) -> Any:
    """As `pca`, each component divided by its deviation (with n - 1 in the divisor, as scikit-learn has it)."""
    return mapped(x, read_step(projection.Whiten, components), over="channel", dtype=dtype)


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
    return mapped(x, Vocabulary(size=size, min_count=min_count, oov_buckets=oov_buckets), over="all")


def scale_to_gaussian(
    x: Tensors, *, over: Over = "element", missing: Missing = None, dtype: tf.DType | None = None
) -> Any:
    """Makes long-tailed values nearly normal, as `tft.scale_to_gaussian` does, of 1,000 exact quantiles.

    The inverse of a Tukey HH distribution with the first four L-moments of the present values; one with lighter tails
    than the normal distribution is scaled to mean 0 and deviation 1. Arguments as in `scale_to_z_score`. Phases as in
    `quantiles`; tf.transform counts in one, over all elements.
    """
    return mapped(x, ranking.Gaussian(), over=over, missing=missing, dtype=dtype)


def scale_rows(
    x: Tensors, by: Literal["l2", "mean", "zscore"] = "l2", *, missing: Missing = None, dtype: tf.DType | None = None
) -> Any:
    """Scales each row by itself; nothing is learned.

    Args:
        x: Numbers `[batch, *shape]` with at least one axis.
        by: `l2` divides by the Euclidean norm, `mean` by the mean; `zscore` gives a row mean 0 and deviation 1.
        missing: As in `scale_to_z_score`.
        dtype: As in `scale_to_z_score`.

    Returns:
        `[batch, *shape]`; a divisor of 0 counts as 1, and a row with a missing value is missing.

    Raises:
        ValueError: If the arguments do not fit.
    """
    return mapped(x, read_step(scaling.ScaledRow, by), over="element", missing=missing, dtype=dtype)


def normalize(
    x: Tensors,
    step: str | Mapping[str, Any],
    *,
    over: Over = "element",
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """Any one step, as a configuration says it: `"zscore"`, `{"scale": 0.5}`.

    Other arguments, results and errors are as in `scale_to_z_score`; integers are int64, and -1 for what is missing.
    """
    return mapped(x, parse_step(step, NORMALIZE), over=over, by=by, missing=missing, dtype=dtype)


def missing_indicator(x: Tensors, *, missing: Missing = None) -> Any:
    """1 where a value is missing and 0 elsewhere, int64 `[batch, *shape]`; nothing is learned.

    Args:
        x: Numbers, one or several tensors. NaN is missing.
        missing: What else is missing: numbers, or a bool tensor like `x`.

    Raises:
        ValueError: If the arguments do not fit.
    """
    labels, tensors, back = flatten(x, "missing_indicator")
    found = []
    for tensor, (_, absent) in zip(tensors, mark_all(labels, tensors, missing), strict=True):
        found.append(tf.zeros_like(tensor, tf.int64) if absent is None else tf.cast(absent, tf.int64))
    return back(found)


def impute(
    x: Tensors,
    method: str | float | Mapping[str, Any] = "mean",
    *,
    over: Over = "element",
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """Values with the missing ones replaced by what the present ones tell; present values stay, bit for bit.

    tf.transform has no such mapper. `tf.where(tf.math.is_nan(x), tft.mean(x), x)` does it for the mean, in the dtype of
    `x`; `tft.min` and `tft.max` are NaN where a value is missing, and its quantiles are approximate.

    Args:
        x: Numbers `[batch, *shape]`; a mapping or a sequence of tensors is one analyzer. NaN is missing.
        method: `mean`, `median`, `most_frequent`, `min`, `max`, `zero`, `regression` (the conditional mean of a
            Gaussian, given the row's present elements), a number, or what a configuration says. Exact, as `moments`,
            `quantiles` and `most_frequent`; the median takes the phases of `quantiles`, others one, a number none.
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
    marked = mark_all(labels, tensors, missing)
    values = [value_of(found, over) for found, _ in marked]
    learns = step.number is None
    if learns:
        subjects = [
            subject_of(label, step, value, keys, complete=True) for label, value in zip(labels, values, strict=True)
        ]
        known = run_passes(subjects, [found for found, _ in marked], keys, name="impute")
    else:
        known = [{"fill": tf.constant(step.number, tf.float64)} for _ in tensors]
    results = []
    for number, (tensor, (found, absent), constants) in enumerate(zip(tensors, marked, known, strict=True)):
        result = _filled(step, tensor, found, absent, constants, dtype)
        results.append(note_step(step, tensor, result, tensor=number if learns else None))
    return back(results)


def _imputation(method: str | float | Mapping[str, Any]) -> Step:
    known = [name for name, step in IMPUTE.items() if step is not Constant]
    if isinstance(method, str) and method not in known:
        raise ValueError(f"impute: expected {', '.join(known)} or a number; found {method!r}")
    return parse_step(method if isinstance(method, str | Mapping) else {Constant.key: float(method)}, IMPUTE)


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
