"""Exact quantiles: counts over the sortable bits of the values, some bits a pass."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.statistics.estimators import add_counts
from pipelines.statistics.summary import F64, I64, Over, as_columns, statistics_axes, statistics_shape

COUNTERS = 2**23
"""How many counters an accumulator may have: 64 MiB of int64."""

MOST_BITS = 16
"""How many bits are resolved in one pass at most."""


CHUNK_ELEMENTS = 2**21
"""Elements that are counted at once, which bounds the memory for their 64-bit codes."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """How often each code occurs in a unit: a bucket and the next bits of a value in it.

    Attributes:
        codes: int64, ascending; the bucket times `2**bits` plus the bits.
        values: How many values each statistic has, missing ones too.
    """

    codes: I64
    counts: I64
    values: int = 0


@dataclasses.dataclass(frozen=True)
class Progress:
    """The ranks that are looked for, and the buckets they are known to lie in.

    Attributes:
        ranked: For each pass done, the codes of the buckets that hold a wanted rank, ascending. A bucket's number in
            the next pass is its place here; before the first pass, it is the number of the statistic.
        count: How many values are present, int64 `[statistics]`.
        bucket: The bucket of each wanted rank, int32 `[statistics, 2 * probabilities]`; -1 where no value is present.
        rank: The rank within its bucket, from 0; int64 where there are more values than int32 counts.
        values: How many values each statistic has, missing ones too.
    """

    ranked: tuple[I64, ...]
    count: I64
    bucket: npt.NDArray[np.int32]
    rank: npt.NDArray[Any]
    values: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Quantiles of the present values, as `np.nanquantile` of float64 values has them (linear interpolation).

    The result `quantiles` is float64, `[len(probabilities), *statistics_shape]`, to the last bit that of NumPy for
    finite values: the two order statistics are exact, and NumPy's own formula goes between them. Infinities are values;
    between a finite value and an infinity the result is that infinity, between the two infinities NaN. NaN where no
    value is present.

    A pass counts values by their next bits, at most 16 and as many as keep the counters of one accumulator within about
    64 MiB (if every one were used), and only in the buckets that hold a wanted rank. So 8-bit integers take one pass
    for up to 32,768 statistics, 16-bit ones for up to 128, float32 two passes for few quantiles of few statistics.

    Attributes:
        dtype: The values' dtype: bool, an integer, or a float of 16, 32 or 64 bits.
        limited: Whether the probabilities, which lie at even distances from 0 to 1 then, are no more than there are
            values of a statistic, missing ones too: of fewer values there are as many quantiles, at as many such
            probabilities.
    """

    probabilities: tuple[float, ...]
    dtype: str
    shape: tuple[int, ...]
    over: Over
    limited: bool = False

    def __post_init__(self) -> None:
        if not self.probabilities or not all(0 <= p <= 1 for p in self.probabilities):
            raise ValueError(f"quantiles: expected probabilities in [0, 1]; found {self.probabilities!r}")
        dtype = np.dtype(self.dtype)
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise ValueError(f"quantiles: expected a bool, an integer or a float of at most 64 bits; found {dtype}")
        statistics_axes(self.over, self.shape)

    @property
    def width(self) -> int:
        """How many statistics there are."""
        return math.prod(statistics_shape(self.over, self.shape))

    @property
    def schedule(self) -> tuple[int, ...]:
        """How many bits each pass resolves."""
        total, done, steps = 8 * np.dtype(self.dtype).itemsize, 0, []
        while done < total:
            # The two ranks around a quantile nearly always share a bucket.
            buckets = max(self.width, 1) * (min(len(self.probabilities), 2**done) if done else 1)
            affordable = max(COUNTERS // buckets, 2).bit_length() - 1
            steps.append(min(MOST_BITS, affordable, total - done))
            done += steps[-1]
        return tuple(steps)

    @property
    def passes(self) -> int:
        return len(self.schedule)

    def start(self) -> Progress:
        ranks = np.zeros((self.width, 2 * len(self.probabilities)), dtype=np.int32)
        return Progress((), np.zeros(self.width, dtype=np.int64), ranks, ranks)

    def accumulate(self, state: Progress, values: npt.NDArray[Any]) -> Counts:
        """Counts one unit's values by bucket and next bits: `[rows, *shape]` of the dtype; NaN is missing."""
        columns = as_columns(values.astype(self.dtype, copy=False), self.over)
        buckets = len(state.ranked[-1]) if state.ranked else self.width
        size = buckets << self.schedule[len(state.ranked)]
        step = max(max(CHUNK_ELEMENTS, size) // max(self.width, 1), 1)
        chunks = (columns[start : start + step] for start in range(0, max(len(columns), 1), step))
        codes = (self._chunk_codes(state, chunk) for chunk in chunks)
        if size > 8 * columns.size:
            counts = (Counts(*add_counts(chunk, np.ones(len(chunk), dtype=np.int64))) for chunk in codes)
            return dataclasses.replace(functools.reduce(self.merge, counts), values=len(columns))
        dense = np.zeros(size, dtype=np.int64)
        for chunk in codes:
            dense += np.bincount(chunk, minlength=size)
        used = np.flatnonzero(dense)
        return Counts(used, dense[used], len(columns))

    def _chunk_codes(self, state: Progress, columns: npt.NDArray[Any]) -> I64:
        keys, bucket = sortable(columns), np.arange(self.width, dtype=np.int64)
        shift = 8 * keys.dtype.itemsize - self.schedule[0]
        codes, keys = _codes(keys, bucket, shift, self.schedule[0]).ravel(), keys.ravel()
        if columns.dtype.kind == "f" and (absent := np.isnan(columns)).any():
            present = ~absent.ravel()
            codes, keys = codes[present], keys[present]
        for step, ranked in enumerate(state.ranked, 1):
            bucket = _find(ranked, codes)
            inside = bucket >= 0
            keys, shift = keys[inside], shift - self.schedule[step]
            codes = _codes(keys, bucket[inside], shift, self.schedule[step])
        return codes

    def merge(self, a: Counts, b: Counts) -> Counts:
        codes, counts = (np.concatenate(pair) for pair in ((a.codes, b.codes), (a.counts, b.counts)))
        return Counts(*add_counts(codes, counts), a.values + b.values)

    def update(self, state: Progress, accumulator: Counts) -> Progress:
        """Finds the wanted ranks among the counts."""
        bits = self.schedule[len(state.ranked)]
        codes, ends = accumulator.codes, np.cumsum(accumulator.counts)
        if not state.ranked:
            state = self._wanted(codes >> bits, accumulator.counts, accumulator.values)
        before = np.concatenate([[0], ends])
        bucket, rank, used = state.bucket.copy(), state.rank.copy(), np.zeros(len(codes), dtype=np.bool_)
        for some in self._blocks():
            wanted = state.bucket[some] >= 0
            old = state.bucket[some][wanted].astype(np.int64)
            overall = before[np.searchsorted(codes, old << bits)] + state.rank[some][wanted]
            found = np.searchsorted(ends, overall, side="right")
            used[found] = True
            bucket[some][wanted], rank[some][wanted] = found, overall - before[found]
        number = np.cumsum(used, dtype=bucket.dtype) - 1
        for some in self._blocks():
            part = bucket[some]
            part[part >= 0] = number[part[part >= 0]]
        return Progress((*state.ranked, codes[used]), state.count, bucket, rank, state.values)

    def _blocks(self) -> list[slice]:
        """Some statistics after the other: of many, what is worked out for each wanted rank would take gigabytes."""
        step = max(CHUNK_ELEMENTS // (2 * len(self.probabilities)), 1)
        return [slice(start, start + step) for start in range(0, self.width, step)]

    def _wanted(self, statistic: I64, counts: I64, values: int) -> Progress:
        """The ranks on both sides of each quantile, in the buckets before the first pass."""
        count, size = np.zeros(self.width, dtype=np.int64), len(self.probabilities)
        np.add.at(count, statistic, counts)
        rank = np.empty((self.width, 2 * size), dtype=np.int64 if count.max(initial=0) >= 2**31 else np.int32)
        for some in self._blocks():
            lower = np.floor(self._positions(count[some], values))
            rank[some, :size] = lower
            rank[some, size:] = np.minimum(lower + 1, np.maximum(count[some] - 1, 0)[:, None])
        bucket = np.empty(rank.shape, dtype=np.int32)
        bucket[:] = np.where(count > 0, np.arange(self.width), -1)[:, None]
        return Progress((), count, bucket, rank, values)

    def _positions(self, count: I64, values: int) -> F64:
        probabilities = np.asarray(self.probabilities, dtype=np.float64)
        used = self._used(values)
        if used < len(probabilities):
            probabilities = np.concatenate([np.linspace(0, 1, used), np.ones(len(probabilities) - used)])
        return np.maximum(count - 1, 0)[:, None] * probabilities

    def _used(self, values: int) -> int:
        """How many quantiles there are of so many values."""
        return min(len(self.probabilities), max(values, 1)) if self.limited else len(self.probabilities)

    def result(self, state: Progress) -> dict[str, npt.NDArray[Any]]:
        used = self._used(state.values)
        quantiles = np.empty((self.width, used))
        for some in self._blocks():
            lower, upper = np.split(self._values(state, state.bucket[some]), 2, axis=1)
            positions = self._positions(state.count[some], state.values)
            quantiles[some] = interpolate(lower, upper, positions - np.floor(positions))[:, :used]
        shape = statistics_shape(self.over, self.shape)
        return {"quantiles": np.ascontiguousarray(quantiles.T).reshape(used, *shape)}

    def _values(self, state: Progress, bucket: npt.NDArray[Any]) -> F64:
        """The values of some of the last buckets."""
        dtype, wanted = np.dtype(self.dtype), bucket >= 0
        keys, bucket, shift = np.zeros(int(wanted.sum()), dtype=np.uint64), bucket[wanted], 0
        for bits, ranked in zip(self.schedule[::-1], state.ranked[::-1], strict=True):
            code = ranked[bucket]
            keys |= (code & (2**bits - 1)).astype(np.uint64) << np.uint64(shift)
            bucket, shift = code >> bits, shift + bits
        values = np.full(wanted.shape, np.nan)
        values[wanted] = unsortable(keys.astype(f"u{dtype.itemsize}"), dtype).astype(np.float64)
        return values


def interpolate(lower: F64, upper: F64, weight: F64) -> F64:
    """Between two values, by the formula of NumPy's `quantile`, which is monotonic and exact at both ends."""
    with np.errstate(invalid="ignore", over="ignore"):
        gap = upper - lower
        between = np.where(weight >= 0.5, upper - gap * (1 - weight), lower + gap * weight)
        infinite = np.isinf(lower) | np.isinf(upper)
        between = np.where(infinite, lower + upper, between)
    return np.where((weight == 0) | (lower == upper), lower, between)


def sortable(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Unsigned integers that are ordered as the values are, -0 as 0; those of NaN mean nothing."""
    dtype = values.dtype
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign = unsigned.type(1 << (8 * dtype.itemsize - 1))
    values = np.ascontiguousarray(values)
    if dtype.kind in "bu":
        return values.view(unsigned)
    if dtype.kind == "i":
        return np.asarray(values.view(unsigned) ^ sign)
    bits = (values + dtype.type(0)).view(unsigned)
    return np.asarray(np.where(bits & sign, ~bits, bits | sign))


def unsortable(keys: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The values of what `sortable` returned."""
    sign = keys.dtype.type(1 << (8 * dtype.itemsize - 1))
    if dtype.kind in "bu":
        return keys.view(dtype)
    bits = keys ^ sign if dtype.kind == "i" else np.where(keys & sign, keys ^ sign, ~keys)
    return np.asarray(bits).view(dtype)


def _codes(keys: npt.NDArray[Any], bucket: I64, shift: int, bits: int) -> I64:
    digits = (keys >> keys.dtype.type(shift)).astype(np.int64)
    digits &= 2**bits - 1
    return np.asarray((bucket << bits) + digits, dtype=np.int64)


def _find(ranked: I64, codes: I64) -> I64:
    """The places of codes in an ascending array; -1 for those that are not there."""
    if not len(ranked):
        return np.full(len(codes), -1, dtype=np.int64)
    size = int(ranked[-1]) + 1
    if size <= 8 * len(codes):  # then a table is cheaper than searching
        table = np.full(size, -1, dtype=np.int64)
        table[ranked] = np.arange(len(ranked))
        return np.where(codes < size, table[np.minimum(codes, size - 1)], -1)
    place = np.minimum(np.searchsorted(ranked, codes), len(ranked) - 1)
    return np.where(ranked[place] == codes, place, -1)
