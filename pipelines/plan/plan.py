"""The plan: a pure function of (source table, configuration, seed) that says which rows feed which shard.

It holds no list of rows or blocks. What one task needs is computed where the task runs, from the source table, so
the plan stays as small as the table at any scale.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from loaders.format.spec import FeatureSpec
from loaders.order import hashing
from pipelines.config.defaults import resolve_feature, untransformed
from pipelines.config.resolved import Custom, ResolvedConfig, ResolvedFeature
from pipelines.config.schema import DEFAULT_SPLITS, DatasetConfig
from pipelines.config.splits import (
    Rule,
    check_filter,
    check_rule,
)
from pipelines.errors import ConfigError
from pipelines.plan.handoff import Kept
from pipelines.sources.table import Part, SourceTable

TRAINING_NAMES = ("train", "training")
BLOCKS_PER_SHARD = 128
MAX_BLOCK_BYTES = 2**20
ANALYSIS_BYTES = 16 * 2**20
ANALYSIS_ROWS = 64
"""Rows of a unit of analysis even where they are large, so that its sums are small beside it."""

RECORD_BYTES = 128 * 2**10
CHUNK_BYTES = 2**20
MAX_RECORD_BYTES = 2**30  # protobuf messages end at 2 GiB

COMPRESSED_BLOCK_BYTES = 64 * 2**20
"""The sources of a block of compressed arrays: each block is found by decompressing all that is before it."""

TASK_BYTES = 256 * 2**20
"""The most that a task holds of its sources: many splits, or wider dtypes than are stored, would make it hold more than
the shards that it writes. A user who asks for larger shards has larger tasks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """A run of consecutive rows of one part: `[start, stop)` of `table.parts[part]`."""

    part: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.stop - self.start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Parts whose rows go to the same splits, and so to the same tasks.

    A task reads its blocks once and writes one shard of each of its group's splits: where rows are split by fraction,
    each block holds rows of every split, and a task for each split would read every block as often as there are
    splits.

    Attributes:
        parts: The numbers of the parts, in the order of the table.
        splits: The names of the splits that the rows go to.
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
class Plan(Kept):
    """Which rows feed which shard, in which order; see `make_plan`.

    Attributes:
        table: The sources.
        config: The resolved configuration.
        groups: The groups of parts.
        block_rows: How many rows a block holds, where its part is not compressed; the last block of a part may hold
            fewer.
        analysis_rows: How many rows are analysed together, likewise.
    """

    table: SourceTable
    config: ResolvedConfig
    groups: tuple[Group, ...]
    block_rows: int
    analysis_rows: int

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in the order of the configuration."""
        return tuple(split for group in self.groups for split in group.splits)

    @property
    def training_split(self) -> str:
        """The split whose rows are analysed: `train` or `training`, or else the first."""
        return next((split for split in self.splits if is_training(split)), self.splits[0])

    @property
    def training_index(self) -> int:
        """The number of the training split in its group."""
        return self._training_group.splits.index(self.training_split)

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
        return max(
            CHUNK_BYTES
            // (stored_row_bytes(self.config.features, self.table, self.config.custom) * self.rows_per_record),
            1,
        )

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
        return f"{split}/{split}-{index:05d}-of-{self.shard_count(split):05d}.tfrecord"

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

    @property
    def rows_to_analyze(self) -> int:
        """How many rows the analysis reads: all that may be training rows."""
        return int(self._training_starts[-1])

    @property
    def analysis_units(self) -> int:
        """How many units of rows are analysed, each in one piece."""
        return -(-self.rows_to_analyze // self.analysis_rows)

    def analysis_spans(self, unit: int) -> list[Span]:
        """The rows of one unit of analysis, training rows and others, in the order of the sources.

        The parts that may hold training rows, laid end to end, are cut every `analysis_rows` rows. So the units, and
        with them every partial statistic, are the same whatever the runner, and a million files of one row make no
        million units.
        """
        starts = self._training_starts
        begin = unit * self.analysis_rows
        end = min(begin + self.analysis_rows, self.rows_to_analyze)
        first = int(np.searchsorted(starts, begin, side="right")) - 1
        spans = []
        for owner in range(first, len(starts) - 1):
            offset = int(starts[owner])
            if offset >= end:
                break
            start, stop = max(begin, offset) - offset, min(end, int(starts[owner + 1])) - offset
            if stop > start:
                spans.append(Span(part=self._training_group.parts[owner], start=start, stop=stop))
        return spans

    @property
    def _training_group(self) -> Group:
        return next(group for group in self.groups if self.training_split in group.splits)

    @functools.cached_property
    def _training_starts(self) -> npt.NDArray[np.int64]:
        """The number of the first row of each part of the training group, and the number of rows at the end."""
        rows = self.table.part_rows[np.asarray(self._training_group.parts, np.int64)]
        return np.concatenate([[0], np.cumsum(rows)])

    def row_order(self, spans: Sequence[Span]) -> npt.NDArray[np.int64]:
        """The order of the rows of a task's blocks in its shards: the stable argsort of their hashes."""
        return hashing.argsort_hashes(self.row_hashes(hashing.SHARD_ROWS, spans))

    def row_hashes(self, purpose: int, spans: Sequence[Span]) -> hashing.U64:
        """The hash of each row of some spans for a purpose, one of those of `loaders.order.hashing`."""
        parts = np.array([hashing.text_key(self.table.parts[span.part].name) for span in spans], np.uint64)
        keys = hashing.derive_each(hashing.derive(self.config.seed, purpose), parts)
        rows = np.array([span.rows for span in spans], np.int64)
        starts = np.array([span.start for span in spans], np.int64)
        shifts = starts - np.cumsum(rows) + rows  # from the number over all spans to that in the part
        return hashing.stream(np.repeat(keys, rows), np.arange(rows.sum()) + np.repeat(shifts, rows))


def _part_block_rows(table: SourceTable, block_rows: int) -> npt.NDArray[np.int64]:
    """How many rows a block of each part holds; more where the middle of a source cannot be read alone."""
    return np.where(table.part_compressed, max(COMPRESSED_BLOCK_BYTES // table.row_bytes, block_rows), block_rows)


def _block_starts(
    table: SourceTable, parts: Sequence[int], part_block_rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    own = np.asarray(parts, np.int64)
    return np.concatenate([[0], np.cumsum(-(-table.part_rows[own] // part_block_rows[own]))])


def is_training(split: str) -> bool:
    """Whether a split's name is one of those that training rows usually have."""
    return split.lower() in TRAINING_NAMES


def resolve_config(
    config: DatasetConfig, table: SourceTable, *, learns: bool = True, custom: Custom | None = None
) -> ResolvedConfig:
    """Makes every choice that the user left open.

    Args:
        config: What the user said.
        table: The sources that it is for.
        learns: Whether there have to be training rows; not where another data set's transform is used.
        custom: What the user's function gives, where there is one.

    Raises:
        ConfigError: If what the user said does not fit the sources.
    """
    if config.preprocessing_fn is not None and custom is None:
        raise ValueError(f"expected what {config.preprocessing_fn} gives, which tracing it tells; found None")
    features = resolve_features(config, table)
    if learns and table.by_directory and not any(is_training(str(part.split)) for part in table.parts):
        found = ", ".join(sorted({str(part.split) for part in table.parts}))
        raise ConfigError(
            f"splits: statistics come from the directory {' or '.join(TRAINING_NAMES)}; found {found}. "
            "Rename one, or give fractions"
        )
    splits = "directory" if table.by_directory else config.splits or DEFAULT_SPLITS
    sources = {f.name: FeatureSpec(name=f.name, dtype=f.kind_name, shape=f.shape, unit=f.unit) for f in table.features}
    if isinstance(splits, Rule):
        check_rule(splits, sources)
    if config.filter is not None:
        check_filter(config.filter, sources)
    if not any(feature.stored for feature in features):
        raise ConfigError("features: at least one feature is stored; found store: none for each")
    stored = stored_row_bytes(features, table, custom)
    rows_per_record = config.rows_per_record or choose_rows_per_record(stored)
    if rows_per_record * stored > MAX_RECORD_BYTES:
        raise ConfigError(
            f"rows_per_record: a record holds at most {MAX_RECORD_BYTES} bytes, and a row has {stored}; "
            f"found {rows_per_record}"
        )
    return ResolvedConfig(
        features=features,
        splits=splits,
        filter=config.filter,
        seed=config.seed,
        shard_bytes=int(config.shard_bytes),
        rows_per_record=rows_per_record,
        custom=custom,
        on_error=config.on_error,
        max_bad_files=config.max_bad_files,
    )


def resolve_features(config: DatasetConfig, table: SourceTable) -> tuple[ResolvedFeature, ...]:
    """Makes every choice about features; where the user has a function, none has a step.

    Raises:
        ConfigError: As `resolve_config`.
    """
    if config.preprocessing_fn is not None:
        config = untransformed(config, [feature.name for feature in table.features])
    return tuple(
        resolve_feature(f, config, class_names=table.directories if f.origin == "directory" else ())
        for f in table.features
    )


def stored_row_bytes(features: Iterable[ResolvedFeature], table: SourceTable, custom: Custom | None = None) -> int:
    """The bytes of one row as the shards hold it; the average over the sources where rows vary.

    Args:
        features: The features, with every choice made.
        table: The sources.
        custom: The user's own function, whose strings are taken to be as long as a row of the sources.

    Returns:
        At least 1.
    """
    if custom is not None:
        return max(sum(table.row_bytes if spec.variable else spec.row_bytes for spec in custom.specs), 1)
    sources = {feature.name: feature for feature in table.features}
    total = 0.0
    for feature in features:
        source = sources[feature.name]
        # Of text, NumPy's `U` has four bytes a character, and UTF-8 mostly one.
        values = source.row_bytes / (4 if source.dtype.kind == "U" else source.dtype.itemsize)
        for spec in feature.stored:
            if spec.dtype == "string":
                total += values if source.dtype.kind == "U" else source.row_bytes
            else:
                total += values * spec.numpy_dtype.itemsize if spec.variable else spec.row_bytes
    return max(round(total), 1)


def make_plan(table: SourceTable, config: ResolvedConfig) -> Plan:
    """Plans a build.

    Args:
        table: The sources, checked.
        config: The resolved configuration for them.

    Returns:
        The plan; the same for the same arguments, whatever the machine.
    """
    stored = stored_row_bytes(config.features, table, config.custom)
    block_bytes = min(max(config.shard_bytes // BLOCKS_PER_SHARD, 1), MAX_BLOCK_BYTES)
    block_rows = max(block_bytes // max(table.row_bytes, stored), 1)
    part_block_rows = _part_block_rows(table, block_rows)
    groups = []
    for splits, parts in split_groups(table.parts, config.splits):
        largest = max(1.0 if share is None else share for share in splits.values())
        rows = int(table.part_rows[np.asarray(parts, np.int64)].sum())
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
    parts: Sequence[Part], splits: str | Mapping[str, float] | Rule
) -> list[tuple[dict[str, float | None], Sequence[int]]]:
    """The splits that each group of parts goes to, each with its share of the rows; None where only values tell."""
    if not isinstance(splits, str):
        shares = splits.shares if isinstance(splits, Rule) else splits
        return [(dict(shares), range(len(parts)))]
    directories: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        assert part.split is not None, "with splits by directory, the scan gives every part a split"
        directories.setdefault(part.split, []).append(number)
    return [({name: 1.0}, tuple(numbers)) for name, numbers in sorted(directories.items())]


def choose_rows_per_record(row_bytes: int) -> int:
    """The power of two that makes a record nearest to 128 KiB, and at least 1."""
    return int(2 ** max(round(math.log2(RECORD_BYTES / row_bytes)), 0))
