"""Moments of the rows of each group: of each value of a key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.statistics import exact
from pipelines.statistics.estimators import OnePass, run_starts
from pipelines.statistics.exact import I64, SEGMENT_ROWS, ExactSum
from pipelines.statistics.moments import ARRAYS, SUMS, Moments, empty
from pipelines.statistics.summary import Over, Statistics, as_columns, statistics_shape, summarize

GROUPS = 1_000_000
"""The most groups that are kept apart; more are a ValueError."""

CHUNK_ELEMENTS = 256 * 1024
"""Elements that are worked on at once: enough that the cost of a chunk is that of its values."""


@dataclasses.dataclass(frozen=True)
class Grouped:
    """The moments of each group.

    Attributes:
        keys: int64 `[groups]`, ascending.
        moments: Of the shape `[groups, *statistics_shape]`.
    """

    keys: I64
    moments: Moments


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupMoments(OnePass):
    """The statistics of each group of rows, exact as those of all rows.

    The result has `keys` (int64, `[groups]`, ascending) and `count`, `missing`, `min`, `max`, `mean` and `std` of the
    shape `[groups, *statistics_shape]`, as in `Statistics`.
    """

    shape: tuple[int, ...]
    over: Over

    def start(self) -> Grouped:
        return Grouped(np.zeros(0, dtype=np.int64), empty((0, *statistics_shape(self.over, self.shape))))

    def accumulate(self, state: Grouped, values: tuple[npt.NDArray[Any], I64]) -> Grouped:
        """The moments of one unit's groups: values `[rows, *shape]`, as in `moments`, and keys, int64 `[rows]`."""
        array, keys = values
        if not len(keys):
            return self.start()
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = run_starts(keys)
        keys, columns = keys[starts], as_columns(array[order], self.over)
        found = _segment_moments(columns, starts * (len(columns) // len(order)))
        shape = statistics_shape(self.over, self.shape)
        return _checked(Grouped(keys.astype(np.int64), found.reshape(len(keys), *shape)))

    def merge(self, a: Grouped, b: Grouped) -> Grouped:
        keys = np.concatenate([a.keys, b.keys])
        keys.sort(kind="stable")  # two sorted runs: merged in linear time
        keys = keys[run_starts(keys)]
        parts = [(own.moments, np.searchsorted(keys, own.keys)) for own in (a, b)]
        fields: dict[str, Any] = {}
        for name, (merged, nothing) in ARRAYS.items():  # made in place, one by one
            array = getattr(a.moments, name)
            fields[name] = np.full((len(keys), *array.shape[1:]), nothing, dtype=array.dtype)
            for own, places in parts:
                fields[name][places] = merged(fields[name][places], getattr(own, name))
        for name in SUMS:
            fields[name] = exact.added_at([(getattr(own, name), places) for own, places in parts], len(keys))
        return _checked(Grouped(keys, Moments(**fields)))

    def result(self, state: Grouped) -> dict[str, npt.NDArray[Any]]:
        return {"keys": state.keys, **summarize(state.moments).arrays()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupsAndAll(GroupMoments):
    """The statistics of each group of rows, and in the last place those of all rows, which empty groups have too.

    So the statistics are of the shape `[groups + 1, *statistics_shape]`.
    """

    def result(self, state: Grouped) -> dict[str, npt.NDArray[Any]]:
        groups = super().result(state)
        return {"keys": state.keys, **with_overall(groups, summarize(overall(state.moments))).arrays()}


def with_overall(groups: Mapping[str, npt.NDArray[Any]], everything: Statistics) -> Statistics:
    """The statistics of groups, those of all rows in the last place and wherever a group has no value."""
    empty, rows = groups["count"] == 0, everything.arrays()
    merged = {name: np.where(empty, array, groups[name]) for name, array in rows.items()}
    return Statistics(**{name: np.concatenate([merged[name], array[None]]) for name, array in rows.items()})


def overall(groups: Moments) -> Moments:
    """The moments of all groups together, exactly those of their rows."""
    fields: dict[str, Any] = {
        name: np.asarray(merged.reduce(getattr(groups, name), axis=0, initial=nothing))
        for name, (merged, nothing) in ARRAYS.items()
    }
    return Moments(**fields, **{name: getattr(groups, name).sum(axis=0) for name in SUMS})


def _checked(groups: Grouped) -> Grouped:
    if len(groups.keys) > GROUPS:
        raise ValueError(f"expected at most {GROUPS} groups; found {len(groups.keys)} or more")
    return groups


def _segment_moments(columns: npt.NDArray[Any], starts: I64) -> Moments:
    """The moments of the columns of each run of rows that begins at `starts`; of the shape `[segments, width]`."""
    columns = columns.view(np.uint8) if columns.dtype == np.bool_ else columns
    columns = columns.astype(columns.dtype.newbyteorder("="), copy=False)
    rows = np.diff(starts, append=len(columns))
    least, greatest = (np.fmin, np.fmax) if columns.dtype.kind == "f" else (np.minimum, np.maximum)
    if columns.dtype.kind == "f":
        columns = columns + columns.dtype.type(0)  # makes signalling NaN quiet, as in `moments`
    with np.errstate(invalid="ignore"):
        low, high = (f.reduceat(columns, starts, axis=0).astype(np.float64) for f in (least, greatest))
    absent = np.isnan(columns) if columns.dtype.kind == "f" else np.zeros((0, 1), dtype=np.bool_)
    missing = np.add.reduceat(absent, starts, axis=0, dtype=np.int64) if absent.any() else np.zeros(low.shape, np.int64)
    total, squares = _segment_sums(columns, starts)
    return Moments(
        count=rows[:, None] - missing,
        missing=missing,
        low=np.where(np.isnan(low), np.inf, low) + 0.0,
        high=np.where(np.isnan(high), -np.inf, high) + 0.0,
        total=total,
        squares=squares,
    )


def _segment_sums(columns: npt.NDArray[Any], starts: I64) -> tuple[ExactSum, ExactSum]:
    """The exact sums of each run, which is cut where it is too long for 64-bit integers."""
    cuts = np.concatenate([starts, np.arange(0, len(columns), SEGMENT_ROWS)])
    cuts.sort(kind="stable")
    cuts = cuts[run_starts(cuts)]
    step = max(CHUNK_ELEMENTS // max(columns.shape[1], 1), SEGMENT_ROWS)
    chunks = np.unique(np.searchsorted(cuts, np.arange(0, len(columns), step)))
    ends = np.append(chunks[1:], len(cuts))
    rows = np.append(cuts, len(columns))
    sums = [_chunk_sums(columns[rows[a] : rows[b]], cuts[a:b] - rows[a]) for a, b in zip(chunks, ends, strict=True)]
    first = np.searchsorted(cuts, starts)
    totals = (exact.concatenate(parts) for parts in zip(*sums, strict=True))
    total, squares = (exact.normalized(np.add.reduceat(own.digits, first, axis=1), own.first) for own in totals)
    return total, squares


def _chunk_sums(columns: npt.NDArray[Any], starts: I64) -> tuple[ExactSum, ExactSum]:
    if columns.dtype.kind == "f":
        finite = np.nan_to_num(columns.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        return exact.float_sums(finite, single=columns.dtype.itemsize <= 4, starts=starts)
    return exact.integer_sums([columns], int(columns.min()), int(columns.max()), starts=starts)
