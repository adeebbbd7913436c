"""To which task, split and place in its shard each row goes, by hashes of its key."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from loaders.order import hashing
from pipelines.config.split_rules import SplitRule
from pipelines.errors import DataError
from pipelines.plan.plan import Plan
from pipelines.plan.units import Span
from pipelines.reading.batches import Columns
from pipelines.reading.split_assignment import DROPPED, assign, by_values, cut, hash_values

_TIES = 1
"""The second word of the key for the hash by which rows of equal hashes are told apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where each row of a batch goes."""

    task: npt.NDArray[np.int64]  # the number of the one that writes it
    split: npt.NDArray[np.intp]  # as a number in those of the task's group; -1 for none
    order: hashing.U64  # what rows of a shard are sorted by
    tie: hashing.U64  # and then by this


def by_source(plan: Plan, numbers: npt.NDArray[np.int64]) -> Places:
    """The places that a build gives to rows of its sources, known by their numbers: else a DataError."""
    spans = _spans(plan, numbers)
    return Places(
        task=plan.owners(spans),
        split=assign(plan, spans),
        order=plan.row_hashes(hashing.SHARD_ROWS, spans),
        tie=numbers.astype(np.uint64),
    )


def hashes_of(plan: Plan, numbers: npt.NDArray[np.int64]) -> hashing.U64:
    """The hash of each row of its sources, known by their numbers among all, that gives its place in a shard."""
    return plan.row_hashes(hashing.SHARD_ROWS, _spans(plan, numbers))


def are_training(plan: Plan, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which rows of its sources, known by their numbers among all, a build learns from; errors are of `by_source`."""
    spans = _spans(plan, numbers)
    parts = np.repeat([span.part for span in spans], [span.rows for span in spans])
    return np.asarray((assign(plan, spans) == plan.training_index) & np.isin(parts, plan.training_group.parts))


def _spans(plan: Plan, numbers: npt.NDArray[np.int64]) -> list[Span]:
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise DataError(f"rows: expected the keys that ReadNpy gave, int64; found {numbers.dtype}")
    if len(wrong := numbers[(numbers < 0) | (numbers >= plan.table.rows)]):
        raise DataError(f"rows: expected keys below {plan.table.rows}, the number of rows; found {wrong[0]}")
    first_rows = plan.table.first_rows
    parts = np.searchsorted(first_rows, numbers, side="right") - 1
    begins = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    begins = np.union1d(begins, np.flatnonzero(np.diff(parts, prepend=-1)))
    ends = np.append(begins[1:], len(numbers))
    starts = numbers[begins] - first_rows[parts[begins]]
    return [
        Span(part=part, start=start, stop=start + rows)
        for part, start, rows in zip(parts[begins].tolist(), starts.tolist(), (ends - begins).tolist(), strict=True)
    ]


def by_key(plan: Plan, keys: npt.NDArray[np.generic], columns: Columns) -> Places:
    """The places of rows with keys of any kind; a DataError where a value names no split."""
    seed, rule = plan.config.seed, plan.config.splits
    order = hash_values(keys, hashing.derive(seed, hashing.SHARD_ROWS))
    if isinstance(rule, SplitRule):
        split = by_values(plan, rule, columns)
        if (wrong := split < DROPPED).any():
            found = columns[rule.feature].reshape(-1)[int(np.argmax(wrong))]
            raise DataError(f"feature {rule.feature}: expected a value that names a split; found {found}")
    else:
        assert not isinstance(rule, str), "rows without files have no directories"
        split = cut(hashing.unit(hash_values(keys, hashing.derive(seed, hashing.SPLIT))), rule)
    dealt = hashing.unit(hash_values(keys, hashing.derive(seed, hashing.DEAL)))
    return Places(
        task=(dealt * plan.task_count).astype(np.int64),
        split=split,
        order=order,
        tie=hash_values(keys, hashing.derive(seed, hashing.SHARD_ROWS, _TIES)),
    )
