"""The plan: a pure function of (source table, configuration, seed) that says which rows feed which shard.

It holds no list of rows or blocks. What one task needs is computed where the task runs, from the source table, so
the plan stays as small as the table at any scale.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from loaders.format.spec import FeatureSpec
from loaders.order import hashing
from pipelines.config.resolved import ResolvedConfig
from pipelines.config.split_rules import SplitRule
from pipelines.plan.resolve import stored_row_bytes, training_of
from pipelines.plan.units import Span, Units
from pipelines.sources.parts import Part
from pipelines.sources.table import SourceTable

BLOCKS_PER_SHARD = 128
MAX_BLOCK_BYTES = 2**20
ANALYSIS_BYTES = 16 * 2**20
ANALYSIS_ROWS = 64
"""Rows of a unit of analysis even where they are large, so that its sums are small beside it."""

CHUNK_BYTES = 2**20

COMPRESSED_BLOCK_BYTES = 64 * 2**20
"""The sources of a block of compressed arrays: each block is found by decompressing all that is before it."""

TASK_BYTES = 256 * 2**20
"""The most that a task holds of its sources: many splits, or wider dtypes than are stored, would make it hold more than
the shards that it writes. A user who asks for larger shards has larger tasks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Parts whose rows go to the same splits, and so to the same tasks.

    A task reads its blocks once and writes one shard of each of its group's splits: where rows are split by fraction,
    each block holds rows of every split, and a task for each split would read every block as often as there are
    splits.

    Attributes:
        parts: The numbers of the parts, in the order of the table.
        tasks: How many tasks, and so shards of each split, there are.
    """

    parts: Sequence[int]
    splits: tuple[str, ...]
    tasks: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """The work of writing shard `index` of each split of one group."""

    group: int
    index: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which rows feed which shard, in which order; see `make_plan`.

    Attributes:
        block_rows: How many rows a block holds, where its part is not compressed; the last block of a part may hold
            fewer.
        analysis_rows: How many rows are analysed together, likewise.
        generation: 0 for a data set of its own; otherwise how many times, with this one, a data set has been replaced
            or added to. Its shards have names that no shard of the data set before has, which stays whole.
    """

    table: SourceTable
    config: ResolvedConfig
    groups: tuple[Group, ...]
    block_rows: int
    analysis_rows: int
    generation: int = dataclasses.field(default=0, kw_only=True)
    adds_rows: bool = dataclasses.field(default=False, kw_only=True)  # to a data set, with the transform that it has
    chunks: int | None = dataclasses.field(default=None, kw_only=True)  # the `chunk_records` of that data set

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in the order of the configuration."""
        return tuple(split for group in self.groups for split in group.splits)

    @property
    def training_split(self) -> str:
        """The split whose rows are analysed: as the user said, `train` or `training`, or else the first."""
        return self.config.training or training_of(self.splits)

    @property
    def training_index(self) -> int:
        """The number of the training split in its group."""
        return self.training_group.splits.index(self.training_split)

    @property
    def training_group(self) -> Group:
        """The group that it is one of."""
        return next(group for group in self.groups if self.training_split in group.splits)

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """The features as the shards hold them, sorted by name."""
        return self.config.stored

    @property
    def rows_per_record(self) -> int:
        """How many rows a record holds."""
        return self.config.rows_per_record

    @property
    def chunk_records(self) -> int:
        """How many records a loader reads together, where rows vary in size and records with them."""
        if self.chunks is not None:
            return self.chunks
        row_bytes = stored_row_bytes(self.config.features, self.table, self.config.custom)
        return max(CHUNK_BYTES // (row_bytes * self.rows_per_record), 1)

    @property
    def task_count(self) -> int:
        """How many tasks there are."""
        return sum(group.tasks for group in self.groups)

    def task(self, number: int) -> Task:
        """A task by its number among all, which is all that has to travel to a worker."""
        for group, own in enumerate(self.groups):
            if number < own.tasks:
                return Task(group=group, index=number)
            number -= own.tasks
        raise IndexError(f"expected a number below {self.task_count}")

    def tasks(self) -> Iterator[Task]:
        """Every task."""
        return map(self.task, range(self.task_count))

    def shard_count(self, split: str) -> int:
        """How many shards a split has."""
        return next(group.tasks for group in self.groups if split in group.splits)

    def shard_file(self, split: str, index: int) -> str:
        """The path of a shard from the data set's root."""
        generation = f"g{self.generation:03d}-" if self.generation else ""
        return f"{split}/{split}-{generation}{index:05d}-of-{self.shard_count(split):05d}.tfrecord"

    def block_count(self, group: int) -> int:
        """How many blocks a group's rows are cut into."""
        return int(self._block_starts[group][-1])

    def blocks(self, task: Task) -> list[Span]:
        """The blocks that feed a task, in the order of the sources.

        The group's blocks are dealt out by a seeded permutation, so each task draws from all of the group.
        """
        group = self.groups[task.group]
        starts = self._block_starts[task.group]
        count = int(starts[-1])
        if not count:  # a directory whose arrays have no rows
            return []
        key = hashing.derive(self.config.seed, hashing.DEAL, task.group)
        dealt = np.sort(hashing.permute(key, np.arange(task.index, count, group.tasks), count))
        owners = np.searchsorted(starts, dealt, side="right") - 1
        parts = self._group_parts[task.group][owners]
        lengths = self._part_block_rows[parts]
        first = (dealt - starts[owners]) * lengths
        last = np.minimum(first + lengths, self.table.part_rows[parts])
        return [
            Span(part=part, start=start, stop=stop)
            for part, start, stop in zip(parts.tolist(), first.tolist(), last.tolist(), strict=True)
        ]

    def owners(self, spans: Sequence[Span]) -> npt.NDArray[np.int64]:
        """The number of the task that each row of some spans feeds: what `blocks` says, the other way round.

        Returns:
            int64 `[rows of all spans]`, as `task` takes them.
        """
        rows = np.array([span.rows for span in spans], np.int64)
        parts = np.repeat(np.array([span.part for span in spans], np.int64), rows)
        own = np.concatenate([np.zeros(0, np.int64), *(np.arange(span.start, span.stop) for span in spans)])
        found, first = np.zeros(len(own), np.int64), 0
        for number, group in enumerate(self.groups):
            starts, members = self._block_starts[number], self._group_parts[number]
            mine = np.flatnonzero(np.isin(parts, members))
            blocks = starts[np.searchsorted(members, parts[mine])] + own[mine] // self._part_block_rows[parts[mine]]
            dealt, of_row = np.unique(blocks, return_inverse=True)
            key = hashing.derive(self.config.seed, hashing.DEAL, number)
            if len(dealt):
                found[mine] = (first + hashing.unpermute(key, dealt, int(starts[-1])) % group.tasks)[of_row]
            first += group.tasks
        return found

    @functools.cached_property
    def _group_parts(self) -> tuple[npt.NDArray[np.int64], ...]:
        return tuple(np.asarray(group.parts, np.int64) for group in self.groups)

    @functools.cached_property
    def _block_starts(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each group, the number of each part's first block, and the number of blocks at the end."""
        return tuple(_block_starts(self.table, group.parts, self._part_block_rows) for group in self.groups)

    @functools.cached_property
    def _part_block_rows(self) -> npt.NDArray[np.int64]:
        return _part_block_rows(self.table, self.block_rows)

    @functools.cached_property
    def training_units(self) -> Units:
        """The units of analysis: of all parts that may hold training rows."""
        found = (group.parts for group in self.groups if self.training_split in group.splits)
        return self._units(next(found, ()))  # rows that are added may be of other splits

    @functools.cached_property
    def units(self) -> Units:
        """The units of all rows."""
        return self._units(range(len(self.table.parts)))

    def _units(self, parts: Sequence[int]) -> Units:
        part_rows = self.table.part_rows[np.asarray(parts, np.int64)]
        return Units(parts=parts, part_rows=part_rows, unit_rows=self.analysis_rows)

    def row_order(self, spans: Sequence[Span]) -> npt.NDArray[np.int64]:
        """The order of the rows of a task's blocks in its shards: the stable argsort of their hashes."""
        return hashing.argsort_hashes(self.row_hashes(hashing.SHARD_ROWS, spans))

    def row_hashes(self, purpose: int, spans: Sequence[Span]) -> hashing.U64:
        """The hash of each row of some spans for a purpose, one of those of `loaders.order.hashing`."""
        parts = np.array([hashing.text_key(self.table.parts[span.part].name) for span in spans], np.uint64)
        keys = hashing.derive_all(hashing.derive(self.config.seed, purpose), parts)
        rows = np.array([span.rows for span in spans], np.int64)
        starts = np.array([span.start for span in spans], np.int64)
        shifts = starts - np.cumsum(rows) + rows  # from the number over all spans to that in the part
        return hashing.stream(np.repeat(keys, rows), np.arange(rows.sum()) + np.repeat(shifts, rows))


def _part_block_rows(table: SourceTable, block_rows: int) -> npt.NDArray[np.int64]:
    """How many rows a block of each part holds; more where the middle of a source cannot be read alone.

    Where rows are stored in chunks a block holds whole ones, so that each is decoded once, unless they are too large.
    """
    most = max(COMPRESSED_BLOCK_BYTES // table.row_bytes, block_rows)
    rows = np.where(table.part_compressed, most, block_rows)
    chunks = np.minimum(table.part_chunk_rows, most)
    return -(-rows // chunks) * chunks


def _block_starts(
    table: SourceTable, parts: Sequence[int], part_block_rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    own = np.asarray(parts, np.int64)
    return np.concatenate([[0], np.cumsum(-(-table.part_rows[own] // part_block_rows[own]))])


def make_plan(table: SourceTable, config: ResolvedConfig) -> Plan:
    """Plans a build of sources that were checked; the plan is the same for the same arguments, whatever the machine."""
    stored = stored_row_bytes(config.features, table, config.custom)
    block_bytes = min(max(config.shard_bytes // BLOCKS_PER_SHARD, 1), MAX_BLOCK_BYTES)
    block_rows = max(block_bytes // max(table.row_bytes, stored), 1)
    part_block_rows = _part_block_rows(table, block_rows)
    groups = []
    for splits, parts in split_groups(table.parts, config.splits):
        largest = max(1.0 if share is None else share for share in splits.values())
        rows = table.rows_of(parts)
        blocks = int(_block_starts(table, parts, part_block_rows)[-1])
        tasks = max(
            math.ceil(rows * stored * largest / config.shard_bytes),
            math.ceil(rows * table.row_bytes / max(TASK_BYTES, 2 * config.shard_bytes)),
        )
        groups.append(Group(parts=parts, splits=tuple(splits), tasks=max(1, min(tasks, blocks))))
    return Plan(
        table=table,
        config=config,
        groups=tuple(groups),
        block_rows=block_rows,
        analysis_rows=max(ANALYSIS_BYTES // table.row_bytes, min(ANALYSIS_ROWS, TASK_BYTES // table.row_bytes), 1),
    )


def split_groups(
    parts: Sequence[Part], splits: str | Mapping[str, float] | SplitRule
) -> list[tuple[dict[str, float | None], Sequence[int]]]:
    """The splits that each group of parts goes to, each with its share of the rows; None where only values tell."""
    if not isinstance(splits, str):
        shares = splits.shares if isinstance(splits, SplitRule) else splits
        return [(dict(shares), range(len(parts)))]
    directories: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        assert part.split is not None, "with splits by directory, the scan gives every part a split"
        directories.setdefault(part.split, []).append(number)
    return [({name: 1.0}, tuple(numbers)) for name, numbers in sorted(directories.items())]
