"""Moments of columns as a monoid: exact, so that neither the cut into blocks nor the order of merging changes a bit."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.statistics import exact, extended
from pipelines.statistics.exact import F64, I64, SEGMENT_ROWS, Adder, ExactSum, Scaling

CACHE_ELEMENTS = 64 * 1024
"""Elements that are worked on at once, so that their float64 copies stay in the second-level cache."""

WIDTH = 1024
"""Rows of fewer elements are laid side by side up to this width: NumPy reduces wide rows three times as fast."""

BAND = 8192
"""Wider rows are cut: of a row as wide as the cache there would be one at a time."""


ARRAYS: dict[str, tuple[np.ufunc, float]] = {
    "count": (np.add, 0),
    "missing": (np.add, 0),
    "low": (np.minimum, np.inf),
    "high": (np.maximum, -np.inf),
}
SUMS = ("total", "squares")
"""The attributes of moments that are arrays, each with what merges it and what it is of no value; and exact sums."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """The moments of some values, for each element of a statistic's shape. Infinities are not in the sums.

    Attributes:
        low: The least value, +inf where there is none.
        high: The greatest value, -inf where there is none.
    """

    count: I64
    missing: I64
    low: F64
    high: F64
    total: ExactSum
    squares: ExactSum

    @functools.cached_property
    def mean_and_std(self) -> tuple[F64, F64]:
        """The means and the deviations of the population, of variances that are the float64 nearest to the exact ones.

        NaN where no value is present, and for a deviation where a value is infinite. A variance beyond float64 is
        infinite.
        """
        shape, size = self.count.shape, self.count.size
        mean, std = np.empty(size), np.empty(size)
        for start in range(0, size, BAND):  # products of many digits, and Python's integers, take much memory
            own = self.reshape(size).take(slice(start, start + BAND))
            means, stds, sure = extended.mean_and_std(own.total, own.squares, own.count)
            unsure = np.flatnonzero(~sure | np.isinf(own.low) | np.isinf(own.high) | (own.count == 0))
            if len(unsure):
                means[unsure], stds[unsure] = _rounded(own.take(unsure))
            mean[start : start + BAND], std[start : start + BAND] = means, stds
        return mean.reshape(shape), std.reshape(shape)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that hold these moments, by name."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        return arrays | self.total.to_arrays("total") | self.squares.to_arrays("squares")

    @staticmethod
    def from_arrays(arrays: dict[str, npt.NDArray[Any]]) -> Moments:
        """Reads what `to_arrays` returned."""
        fields: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
        fields |= {name: ExactSum.from_arrays(arrays, name) for name in SUMS}
        return Moments(**fields)

    def take(self, columns: I64 | slice) -> Moments:
        """The moments of some columns, where the shape has one axis."""
        fields: dict[str, Any] = {name: getattr(self, name)[columns] for name in ARRAYS}
        return Moments(**fields, total=self.total.take(columns), squares=self.squares.take(columns))

    def reshape(self, *shape: int) -> Moments:
        """The same moments in another shape."""
        fields: dict[str, Any] = {name: getattr(self, name).reshape(shape) for name in ARRAYS}
        return Moments(**fields, total=self.total.reshape(*shape), squares=self.squares.reshape(*shape))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two sets of values together."""
    fields: dict[str, Any] = {name: f(getattr(a, name), getattr(b, name)) for name, (f, _) in ARRAYS.items()}
    return Moments(**fields, **{name: getattr(a, name) + getattr(b, name) for name in SUMS})


def concatenate(bands: Sequence[Moments]) -> Moments:
    """The moments of columns, one after the other."""
    fields: dict[str, Any] = {name: np.concatenate([getattr(band, name) for band in bands]) for name in ARRAYS}
    fields |= {name: exact.concatenate([getattr(band, name) for band in bands]) for name in SUMS}
    return Moments(**fields)


def empty(shape: tuple[int, ...]) -> Moments:
    """The moments of no value."""
    none = np.zeros(shape, dtype=np.int64)
    return Moments(none, none, np.full(shape, np.inf), np.full(shape, -np.inf), exact.zeros(shape), exact.zeros(shape))


def column_moments(columns: npt.NDArray[Any]) -> Moments:
    """The moments, `[width]`, of columns, `[rows, width]` of bools, integers or floats; NaN is missing."""
    rows, width = columns.shape
    if width > BAND:
        return concatenate([column_moments(columns[:, start : start + BAND]) for start in range(0, width, BAND)])
    columns = np.ascontiguousarray(columns, dtype=columns.dtype.newbyteorder("="))
    if columns.dtype == np.bool_:
        columns = columns.view(np.uint8)
    if not rows or not width:
        return empty((width,))
    fold = max(WIDTH // width, 1)
    even = rows // fold * fold
    parts = []
    if even:
        parts.append(_folded(columns[:even].reshape(even // fold, fold * width), fold))
    if even < rows:
        parts.append(_folded(columns[even:], 1))
    return parts[0] if len(parts) == 1 else merge(*parts)


def _folded(block: npt.NDArray[Any], fold: int) -> Moments:
    """The moments of columns of which each stands `fold` times side by side."""
    if block.dtype.kind == "f":
        return _float_moments(block, fold)
    low = block.min(axis=0).reshape(fold, -1).min(axis=0)
    high = block.max(axis=0).reshape(fold, -1).max(axis=0)
    if block.dtype.itemsize <= 2:
        total, squares = _small_sums(block, fold)
    else:
        total, squares = exact.integer_sums(_pieces(block), int(low.min()), int(high.max()), fold=fold)
    count = np.full(low.shape, len(block) * fold, dtype=np.int64)
    return Moments(
        count=count,
        missing=np.zeros_like(count),
        low=low.astype(np.float64),
        high=high.astype(np.float64),
        total=total,
        squares=squares,
    )


def _small_sums(block: npt.NDArray[Any], fold: int) -> tuple[ExactSum, ExactSum]:
    """Integers of at most 16 bits: sums and sums of squares are exact in 64-bit integers."""
    width = block.shape[1]
    total, squares = np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.uint64)
    for piece in _pieces(block):
        total += np.add.reduce(piece, axis=0, dtype=np.int64)
        wide = piece.astype(np.int32)
        # A square is below 2**32: it wraps to the right bits in 32-bit arithmetic, read as unsigned.
        squares += np.add.reduce((wide * wide).view(np.uint32), axis=0, dtype=np.uint64)
    total = total.reshape(fold, -1).sum(axis=0)
    halves = (squares & np.uint64(exact.MASK)).reshape(fold, -1).sum(axis=0).astype(np.int64)
    upper = (squares >> np.uint64(exact.DIGIT)).reshape(fold, -1).sum(axis=0).astype(np.int64)
    return (
        exact.normalized(np.stack([total & exact.MASK, total >> exact.DIGIT]), 0),
        exact.normalized(np.stack([halves, upper]), 0),
    )


def _pieces(block: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    step = min(max(CACHE_ELEMENTS // block.shape[1], 1), SEGMENT_ROWS)
    return [block[start : start + step] for start in range(0, len(block), step)]


def _float_moments(block: npt.NDArray[Any], fold: int) -> Moments:
    with np.errstate(invalid="ignore"):
        if np.isnan(block).any():
            block = block + block.dtype.type(0)  # makes signalling NaN quiet: fmin lets no other value survive one
        low, high = (function.reduce(block, axis=0).reshape(fold, -1) for function in (np.fmin, np.fmax))
    low, high = np.fmin.reduce(low, axis=0), np.fmax.reduce(high, axis=0)
    low, high = (np.asarray(array, dtype=np.float64) for array in (low, high))
    count, total, squares = _float_sums(block, low, high, fold)
    return Moments(
        count=count,
        missing=len(block) * fold - count,
        low=np.where(np.isnan(low), np.inf, low) + 0.0,  # -0 becomes 0: the two are equal, and either may be found
        high=np.where(np.isnan(high), -np.inf, high) + 0.0,
        total=total,
        squares=squares,
    )


def _float_sums(block: npt.NDArray[Any], low: F64, high: F64, fold: int) -> tuple[I64, ExactSum, ExactSum]:
    """The count, sum and sum of squares of each column of floats; NaN is missing, an infinity is counted only.

    Each column stands `fold` times side by side in the block; the least of it, and the greatest, are `[width]`, NaN
    where none is present.
    """
    finite = not (np.isinf(low).any() or np.isinf(high).any())
    if not finite:
        present = np.where(np.isfinite(block), block, 0).reshape(-1, len(low))
        low, high = (np.asarray(f(present, axis=0), dtype=np.float64) for f in (np.min, np.max))
    low, high = np.nan_to_num(low), np.nan_to_num(high)
    scaling, single = Scaling.of(low, high), block.dtype.itemsize <= 4
    tiled = scaling if scaling.exponents is None else Scaling(scaling.top, np.tile(scaling.exponents, fold))
    width = block.shape[1]
    total, squares, count = Adder((width,)), Adder((width,)), np.zeros(width, dtype=np.int64)
    apart: list[F64] = []
    for raw in _pieces(block):
        absent = np.isnan(raw)
        count += len(raw)
        piece = raw.astype(np.float64)
        if absent.any():
            count -= np.add.reduce(absent.view(np.uint8), axis=0, dtype=np.uint8 if len(raw) < 256 else np.int64)
            piece[absent] = 0.0
        if not finite:
            piece[np.isinf(piece)] = 0.0
        if not single and (rest := exact.take_small(piece, tiled)) is not None:
            apart.append(rest)
        if tiled.exponents is not None:
            piece *= np.ldexp(1.0, -tiled.exponents)
        exact.add_floats(total, squares, piece, tiled, single=single)
    scale: I64 | int = 0 if scaling.exponents is None else scaling.exponents
    result = [total.total(scale, fold), squares.total(2 * scale, fold)]
    for rest in apart:
        added = exact.float_sums(rest, single=False)
        result = [first + other.reshape(fold, -1).sum(0) for first, other in zip(result, added, strict=True)]
    return count.reshape(fold, -1).sum(axis=0), result[0], result[1]


def _rounded(values: Moments) -> tuple[F64, F64]:
    """`Moments.mean_and_std` of columns by integer arithmetic, whatever they hold."""
    total, total_scale = values.total.integers()
    squares, squares_scale = values.squares.integers()
    count = values.count.astype(object)
    scale = min(2 * total_scale, squares_scale)
    # n**2 times the variance: n * sum(x**2) - sum(x)**2
    scatter = (count * squares << (squares_scale - scale)) - (total * total << (2 * total_scale - scale))
    infinite = np.isinf(values.low) | np.isinf(values.high)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf, and what is not chosen
        mean = np.frompyfunc(lambda t, n: exact.ratio(t, n, total_scale), 2, 1)(total, count)
        std = np.frompyfunc(lambda s, n: _root(s, n * n, scale), 2, 1)(scatter, count)
        mean, std = (np.asarray(array, dtype=np.float64) for array in (mean, std))
        mean = np.where(infinite, values.low + values.high, mean)
    known = values.count > 0
    return np.where(known, mean, np.nan), np.where(known & ~infinite, std, np.nan)


def _root(numerator: int, denominator: int, scale: int) -> float:
    """The root of `exact.ratio`, whose variance need not be a normal float64 if it is small."""
    variance = exact.ratio(numerator, denominator, scale)
    if variance > 2.0**-1000 or not numerator:
        return math.sqrt(variance)
    return math.ldexp(math.sqrt(exact.ratio(numerator, denominator, scale + 1200)), -600)
