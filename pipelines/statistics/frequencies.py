"""How often each distinct value occurs: for the most frequent one, and for vocabularies."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.statistics.estimators import OnePass, run_starts
from pipelines.statistics.summary import I64, Over, as_columns, statistics_shape

MOST_DISTINCT = 2**24
"""The most distinct values that a step counts, of all its statistics together: of integers they take 256 MiB."""

MERGED_AT_ONCE = 2**20
"""Counts of several statistics that are merged together: sorting takes 40 bytes for each."""


@dataclasses.dataclass(frozen=True)
class Distinct:
    """The distinct values of each statistic, one statistic after the other.

    Attributes:
        values: `[n]`, ascending within a statistic.
        counts: int64 `[n]`.
        sizes: How many distinct values each statistic has, int64 `[statistics]`.
    """

    values: npt.NDArray[Any]
    counts: I64
    sizes: I64

    def take(self, statistics: slice) -> Distinct:
        """The counts of some of the statistics, which follow each other."""
        ends = np.concatenate([[0], np.cumsum(self.sizes)])
        some = slice(*ends[[statistics.start, min(statistics.stop, len(self.sizes))]].tolist())
        return Distinct(self.values[some], self.counts[some], self.sizes[statistics])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frequencies(OnePass):
    """Counts of the distinct present values of each statistic, exact; -0 is 0.

    The result has `values` and `counts` (int64), of the shape `[*statistics_shape, n]` where n is the most distinct
    values of any statistic: values ascending, filled up with zeros (or empty strings) of count 0.

    Attributes:
        limit: The most distinct values that one statistic may have; more are a ValueError.
    """

    shape: tuple[int, ...]
    over: Over
    limit: int = 65536

    def start(self) -> Distinct:
        sizes = np.zeros(math.prod(statistics_shape(self.over, self.shape)), dtype=np.int64)
        return Distinct(np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64), sizes)

    def accumulate(self, state: Distinct, values: npt.NDArray[Any]) -> Distinct:
        """The counts of one unit: `[rows, *shape]`, bool, integer, float (NaN is missing), or NumPy strings (S, U)."""
        columns = as_columns(values, self.over)
        if not columns.size:
            return dataclasses.replace(self.start(), values=columns.ravel())
        if columns.dtype.kind == "f":
            columns = columns + columns.dtype.type(0)  # -0 becomes 0
        ordered = np.sort(columns.T, axis=1)
        first = np.ones(ordered.shape, dtype=np.bool_)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        starts = np.flatnonzero(first)
        counts = np.diff(starts, append=ordered.size)
        distinct, column = ordered.ravel()[starts], starts // ordered.shape[1]
        if columns.dtype.kind == "f":
            present = ~np.isnan(distinct)
            distinct, counts, column = distinct[present], counts[present], column[present]
        return self._checked(Distinct(distinct, counts, np.bincount(column, minlength=len(ordered))))

    def merge(self, a: Distinct, b: Distinct) -> Distinct:
        if not len(a.values) or not len(b.values):
            return b if len(b.values) or a.values.dtype == np.bool_ else a
        if len(a.sizes) == 1:
            return self._checked(_merged(a, b))
        ends = np.cumsum(a.sizes + b.sizes)
        values, counts = np.empty(ends[-1], np.result_type(a.values, b.values)), np.empty(ends[-1], np.int64)
        cuts = np.searchsorted(ends, np.arange(MERGED_AT_ONCE, ends[-1], MERGED_AT_ONCE)) + 1
        cuts = np.unique([0, *cuts, len(ends)])
        sizes, size = [], 0
        for columns in (slice(start, stop) for start, stop in itertools.pairwise(cuts)):
            found = _merged_columns(a.take(columns), b.take(columns))
            values[size : size + len(found.values)] = found.values
            counts[size : size + len(found.values)] = found.counts
            sizes.append(found.sizes)
            size += len(found.values)
        values.resize(size, refcheck=False)
        counts.resize(size, refcheck=False)
        return self._checked(Distinct(values, counts, np.concatenate(sizes)))

    def result(self, state: Distinct) -> dict[str, npt.NDArray[Any]]:
        longest, shape = int(state.sizes.max(initial=0)), statistics_shape(self.over, self.shape)
        if len(state.sizes) == 1:
            return {"values": state.values.reshape(*shape, longest), "counts": state.counts.reshape(*shape, longest)}
        used = np.arange(longest) < state.sizes[:, None]
        values, counts = np.zeros(used.shape, dtype=state.values.dtype), np.zeros(used.shape, dtype=np.int64)
        values[used], counts[used] = state.values, state.counts
        return {"values": values.reshape(*shape, longest), "counts": counts.reshape(*shape, longest)}

    def _checked(self, found: Distinct) -> Distinct:
        most = int(found.sizes.max(initial=0))
        if most > self.limit:
            raise ValueError(f"expected at most {self.limit} distinct values; found {most} or more")
        return found


def _merged(a: Distinct, b: Distinct) -> Distinct:
    """The counts of one statistic together, in little memory: there may be millions."""
    values = np.concatenate([a.values, b.values])
    values.sort(kind="stable")  # two sorted runs: merged in linear time
    values = values[run_starts(values)]
    counts = np.zeros(len(values), dtype=np.int64)
    for own in (a, b):
        counts[np.searchsorted(values, own.values)] += own.counts
    return Distinct(values, counts, np.array([len(values)]))


def _merged_columns(a: Distinct, b: Distinct) -> Distinct:
    """The counts of several statistics together."""
    column = np.concatenate([np.repeat(np.arange(len(state.sizes)), state.sizes) for state in (a, b)])
    values, counts = np.concatenate([a.values, b.values]), np.concatenate([a.counts, b.counts])
    order = np.lexsort((values, column))
    values, counts, column = values[order], counts[order], column[order]
    new = np.ones(len(values), dtype=np.bool_)
    new[1:] = (values[1:] != values[:-1]) | (column[1:] != column[:-1])
    starts = np.flatnonzero(new)
    sizes = np.bincount(column[starts], minlength=len(a.sizes))
    return Distinct(values[starts], np.add.reduceat(counts, starts), sizes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes(Frequencies):
    """How often each class of a label occurs; None where there are more values than the limit, which are no classes."""

    shape: tuple[int, ...] = ()
    over: Over = "all"

    def merge(self, a: Distinct | None, b: Distinct | None) -> Any:
        return None if a is None or b is None else super().merge(a, b)

    def _checked(self, found: Distinct) -> Any:
        return found if found.sizes.max(initial=0) <= self.limit else None


def most_frequent(result: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The most frequent value of each statistic that `Frequencies` has counted, the least of those equally frequent.

    Returns:
        Of the statistic's shape and the values' dtype; NaN where no value is present.

    Raises:
        ValueError: If no value is present for a statistic and the dtype has no NaN.
    """
    values, counts = result["values"], result["counts"]
    nothing = counts.max(axis=-1, initial=0) == 0
    if nothing.any() and values.dtype.kind != "f":
        raise ValueError("expected a value for each statistic; found none")
    if not values.shape[-1]:
        return np.full(nothing.shape, np.nan, dtype=values.dtype)
    most = np.take_along_axis(values, counts.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(nothing, values.dtype.type(np.nan), most) if nothing.any() else most


def ranked(result: Mapping[str, npt.NDArray[Any]], size: int | None = None) -> tuple[npt.NDArray[Any], I64]:
    """At most `size` values of one statistic by falling count, equal counts by rising value, and their counts."""
    order = np.argsort(-result["counts"], kind="stable")[:size]
    return result["values"][order], result["counts"][order]
