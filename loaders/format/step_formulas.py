"""What each step makes of values, and the way back, said once: for TensorFlow's graph, NumPy, PyTorch and JAX.

A function takes the values, float64 of shape [batch, *shape], or integers and strings where a step takes those; the
constants that were learned, as they broadcast against the values; what the configuration says of the step, or None for
its name alone; and the operations, `loaders.transform.ops.ArrayOps` or those of the exported graph.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

EDGE = 1e-7
"""How near to 0 and 1 a probability counts as one of them where it is, or was, a normal deviate, as in scikit-learn."""

SOLVE_ELEMENTS = 2**18
"""Elements of the systems of equations that are solved together: 2 MiB, several times over, which is fastest."""

TINY = np.finfo(np.float64).tiny
"""The least number that TensorFlow does not take for 0."""

Constants = Mapping[str, Any]
Function = Callable[[Any, Any, Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Formula:
    """What a step makes of values.

    Attributes:
        forward: From values to transformed ones.
        inverse: From transformed values, float64, to raw ones, of `loaders.transform.inverse.Constants`; None where
            there is no way back.
        inputs: What it takes as it is; `float64` is any real number, as float64.
        prepare: What is added, once, to constants that arrays are transformed by.
    """

    forward: Function
    inverse: Function | None = None
    inputs: frozenset[str] = frozenset({"float64"})
    prepare: Callable[[Constants], Constants] = lambda constants: {}


def fill(x: Any, constants: Constants, _: Any, ops: Any) -> Any:
    """The constant `fill` where a value is missing."""
    return ops.where(ops.isnan(x), ops.cast_like(constants["fill"], x), x)


def regression(x: Any, constants: Constants, _: Any, ops: Any) -> Any:
    """What the present elements of a row let one expect of the missing ones."""
    mean, divisor, correlation = (constants[name] for name in ("mean", "divisor", "correlation"))
    flat = flat_rows(x, ops)

    def solve(rows: Any) -> Any:
        missing = ops.isnan(rows)
        deviation = ops.where(missing, ops.zeros_like(rows), (rows - mean) / divisor)
        # The equations of the present elements; those of the missing ones say that their unknown is 0.
        alone = missing[:, :, None] | missing[:, None, :]
        equations = ops.where(alone, ops.identity(flat.shape[-1]), correlation)
        unknown = ops.solve_positive(equations, deviation[:, :, None])[:, :, 0]
        expected = mean + divisor * sum_last(correlation * unknown[:, None, :], ops)[:, :, 0]
        return ops.where(missing, expected, rows)

    together = max(SOLVE_ELEMENTS // flat.shape[-1] ** 2, 1)
    return ops.reshape(ops.replace_rows(flat, ops.any_last(ops.isnan(flat)), solve, together), ops.shape(x))


def standardize(x: Any, constants: Constants, _: Any, ops: Any) -> Any:
    """Less the shift, divided."""
    return (x - constants["shift"]) / constants["divisor"]


def inverse_standardize(y: Any, constants: Constants, _: Any, __: Any) -> Any:
    """Times the divisor, and the shift."""
    return y * constants["divisor"] + constants["shift"]


def minmax(x: Any, constants: Constants, said: Any, ops: Any) -> Any:
    """From the range of the training values to another."""
    unit = standardize(x, constants, None, ops)
    low, high = said or (0.0, 1.0)
    if (low, high) == (0.0, 1.0):
        return unit
    return unit * ops.literal(high - low, x) + ops.literal(low, x)


def inverse_minmax(y: Any, constants: Constants, said: Any, ops: Any) -> Any:
    """From the other range to that of the training values."""
    low, high = said or (0.0, 1.0)
    return inverse_standardize((y - low) / (high - low), constants, None, ops)


def maxabs(x: Any, constants: Constants, _: Any, ops: Any) -> Any:
    """Divided."""
    return x / constants["divisor"]


def scale(x: Any, _: Constants, factor: float, ops: Any) -> Any:
    """Times a constant."""
    return x * ops.literal(factor, x)


def log1p(x: Any, _: Constants, __: Any, ops: Any) -> Any:
    """The logarithm of 1 + x; -inf for values that are not above -1."""
    return ops.where(x <= -1, ops.constant(-math.inf, x), ops.log1p(x))


def row(x: Any, _: Constants, by: str, ops: Any) -> Any:
    """Each row scaled by itself: `l2`, `mean` or `zscore`."""
    rows = flat_rows(x, ops)
    count = ops.literal(float(rows.shape[-1]), x)
    if by == "zscore":
        rows = rows - sum_last(rows, ops) / count
    divisor = sum_last(rows if by == "mean" else rows * rows, ops)
    if by != "l2":
        divisor = divisor / count
    if by != "mean":
        divisor = ops.sqrt(divisor)
    divisor = ops.where(ops.abs(divisor) < TINY, ops.ones_like(divisor), divisor)
    return ops.reshape(rows / divisor, ops.shape(x))


def clip(x: Any, constants: Constants, _: Any, ops: Any) -> Any:
    """What lies outside two numbers moved to them."""
    x = ops.where(x < constants["low"], constants["low"], x)
    return ops.where(x > constants["high"], constants["high"], x)


def quantile(x: Any, constants: Constants, to: str, ops: Any) -> Any:
    """The place among the training values: `uniform` in [0, 1], or as a `normal` deviate."""
    columns, knots, back = by_statistic(x, constants["quantiles"], ops)
    above = ops.count_below(knots, columns, strict=False)
    last = ops.maximum(above - 1, 0)
    tied = ops.take_by_row(knots, last) == columns
    # To search is what takes long: the first place of a repeated value is looked for once a knot.
    places = ops.where(tied, ops.take_by_row(_middles(knots, ops), last), _interpolate(columns, knots, above, ops))
    least, greatest = knots[:, :1], knots[:, -1:]
    near = EDGE if to == "normal" else 0.0
    places = ops.where(columns + near >= greatest, ops.ones_like(places), places)
    places = ops.where(columns - near <= least, ops.zeros_like(places), places)
    if to == "normal":
        low = EDGE - np.spacing(1)
        places = ops.ndtri(ops.clip(places, low, 1.0 - low))
    return back(ops.where(ops.isnan(columns), columns, places))


def inverse_quantile(y: Any, constants: Any, to: str, ops: Any) -> Any:
    """Linear between quantiles. Source: scikit-learn's `QuantileTransformer.inverse_transform`."""
    if to == "normal":
        y = 0.5 * ops.erfc(-y / math.sqrt(2.0))
        y = ops.where(y < EDGE, 0.0 * y, y)
        y = ops.where(y > 1.0 - EDGE, 0.0 * y + 1.0, y)
    quantiles = constants.get("quantiles", before=1)
    count, shape = quantiles.shape[1], tuple(quantiles.shape[2:])
    size = math.prod(shape)
    place = ops.where(y == y, ops.clip(y, 0.0, 1.0), y) * (count - 1)  # clipping may lose NaN
    below = ops.clip(ops.floor(ops.where(place == place, place, 0.0)), 0.0, max(count - 2.0, 0.0))
    part = place - below
    # The quantiles of one statistic stand `size` apart, and those of one row of the batch `count * size`.
    first = ops.reshape(ops.rows(quantiles) * (count * size), [-1, *[1] * len(shape)])
    at = first + ops.int64(below) * size + ops.int64(np.arange(size).reshape(shape))
    flat = ops.reshape(quantiles, [-1])
    above = at + size if count > 1 else at
    return (1.0 - part) * ops.take_flat(flat, at) + part * ops.take_flat(flat, above)


def buckets(x: Any, constants: Constants, _: Any, ops: Any) -> Any:
    """The number of the bucket, from 0."""
    columns, knots, back = by_statistic(x, constants["boundaries"], ops)
    return back(ops.count_below(knots, columns, strict=False))


def gaussian(x: Any, constants: Constants, _: Any, ops: Any) -> Any:
    """Nearly normal deviates: the inverse of a Tukey HH distribution."""
    scaled = standardize(x, constants, None, ops)
    return ops.inverse_tukey_hh(scaled, constants["left"], constants["right"])


def pca(x: Any, constants: Constants, _: Any, ops: Any) -> Any:
    """Principal components of the last axis."""
    centred = x - constants["mean"]
    found = ops.for_each(lambda component: sum_last(centred * component, ops), constants["components"], x)
    return found / constants["scale"]


def inverse_pca(y: Any, constants: Any, _: Any, ops: Any) -> Any:
    """The vectors that have such components, and nothing beside them."""
    return ops.project(y * constants["scale"], constants["components"]) + constants["mean"]


def vocabulary(x: Any, constants: Constants, said: Any, ops: Any) -> Any:
    """The rank among the training values, and for others the number of a bucket after them, or -1."""
    oov_buckets = (said or {}).get("oov_buckets", 1)
    ids, known = ops.rank(x, constants)
    return ops.where(known, ids, ops.unknown_rank(x, constants, oov_buckets))


def in_order(constants: Constants) -> Constants:
    """Where the words of a vocabulary stand in ascending order."""
    return {"order": np.argsort(constants["vocabulary"], kind="stable")}


def one_hot(x: Any, _: Constants, classes: int, ops: Any) -> Any:
    """1 at the number of a class and 0 elsewhere."""
    return ops.one_hot(x, classes)


FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(("mean", "median", "most_frequent", "min", "max", "zero", "constant"), Formula(fill)),
    "regression": Formula(regression),
    "zscore": Formula(standardize, inverse_standardize),
    "robust": Formula(standardize, inverse_standardize),
    "minmax": Formula(minmax, inverse_minmax),
    "maxabs": Formula(maxabs, lambda y, constants, _, __: y * constants["divisor"]),
    "scale": Formula(scale, lambda y, _, factor, __: y / factor),
    "log1p": Formula(log1p, lambda y, _, __, ops: ops.expm1(y)),
    "row": Formula(row),
    "clip": Formula(clip, lambda y, _, __, ___: y),
    "quantile": Formula(quantile, inverse_quantile),
    "gaussian": Formula(gaussian),
    "buckets": Formula(buckets),
    "pca": Formula(pca, inverse_pca),
    "whiten": Formula(pca, inverse_pca),
    "vocabulary": Formula(vocabulary, inputs=frozenset({"int64", "string"}), prepare=in_order),
    "one_hot": Formula(one_hot, inputs=frozenset({"int64"})),
}
"""Name of a step in the configuration, which the manifest holds → what it makes of values."""


def flat_rows(x: Any, ops: Any) -> Any:
    """`[batch, *shape]` as `[batch, elements]`."""
    return ops.reshape(x, [-1, math.prod(x.shape[1:])])


def sum_last(x: Any, ops: Any) -> Any:
    """The sum over the last axis, by halves.

    What reduces cuts the work by the shape of the whole batch, and another cut rounds differently. Sums of whole slices
    do not depend on it. Of `[..., n]`, n known and at least 1, it makes `[..., 1]`.
    """
    size = x.shape[-1]
    while size > 1:
        half = size // 2
        folded = x[..., :half] + x[..., half : 2 * half]
        x = ops.concat_last([folded, x[..., 2 * half :]]) if size % 2 else folded
        size = half + size % 2
    return x


def representable(missing: Iterable[float], dtype: np.dtype[Any]) -> tuple[float, ...]:
    """The values that stand for a missing one as a dtype of the sources has them, without those that it has not."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            rounded = {value: float(dtype.type(value)) for value in missing}
        return tuple(found for value, found in rounded.items() if np.isfinite(found) or not np.isfinite(value))
    limits = np.iinfo(dtype)
    return tuple(value for value in missing if value == value // 1 and limits.min <= value <= limits.max)


def by_statistic(x: Any, learned: Any, ops: Any) -> tuple[Any, Any, Callable[[Any], Any]]:
    """The values of each statistic together, [statistics, values]; its knots, [statistics, n]; and the way back."""
    shape = [int(size) for size in learned.shape[1:]]
    axes = [axis + 1 for axis, size in enumerate(shape) if size > 1]
    order = [*axes, *(axis for axis in range(len(x.shape)) if axis not in axes)]
    turned = ops.transpose(x, order)
    columns = ops.reshape(turned, [math.prod(int(x.shape[axis]) for axis in axes), -1])
    turned_shape = ops.shape(turned)
    knots = ops.transpose(ops.reshape(learned, [-1, math.prod(shape)]))

    def back(found: Any) -> Any:
        placed = ops.transpose(ops.reshape(found, turned_shape), [order.index(axis) for axis in range(len(order))])
        return ops.ensure_shape(placed, x)

    return columns, knots, back


def _middles(knots: Any, ops: Any) -> Any:
    """The place of each knot: of repeated ones the middle of their places."""
    first, last = (_interpolate(knots, knots, ops.count_below(knots, knots, strict=s), ops) for s in (True, False))
    return 0.5 * (last + first)


def _interpolate(x: Any, knots: Any, below: Any, ops: Any) -> Any:
    """The place in [0, 1] of values `[statistics, values]` on the line through (knot i, i / (n - 1)).

    A single knot has the place 0. Knots, `[statistics, n]`, ascend. `below` says how many are below each value; those
    that equal it may count.
    """
    intervals = ops.length(knots) - 1
    lower = ops.clip(below - 1, 0, ops.maximum(intervals - 1, 0))
    low, high = (ops.take_by_row(knots, at) for at in (lower, ops.minimum(lower + 1, intervals)))
    inside = ops.divide_no_nan(x - low, high - low)
    # A plain division by what is constant in a graph would become a product there.
    place = ops.divide_no_nan(ops.float64(lower) + inside, ops.float64(intervals))
    place = ops.where(below == 0, ops.zeros_like(place), place)
    return ops.where(below > intervals, ops.ones_like(place), place)
