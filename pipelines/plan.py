"""The plan: a pure function of (source table, configuration, seed) that says which rows feed which shard.

It holds no list of rows or blocks. What one task needs is computed where the task runs, from the source table, so
the plan stays as small as the table at any scale.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders import order
from loaders.spec import FeatureSpec
from pipelines.config import DEFAULT_SPLITS, DatasetConfig, ResolvedConfig, resolve_feature
from pipelines.errors import ConfigError
from pipelines.sources import Part, SourceTable

TRAINING_NAMES = ("train", "training")
BLOCKS_PER_SHARD = 128
MAX_BLOCK_BYTES = 2**20
ANALYSIS_BYTES = 16 * 2**20
RECORD_BYTES = 128 * 2**10
MAX_RECORD_BYTES = 2**30  # protobuf messages end at 2 GiB

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

    parts: tuple[int, ...]
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
        table: The sources.
        config: The resolved configuration.
        groups: The groups of parts.
        block_rows: How many rows a block holds; the last block of a part may hold fewer.
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
        return next((split for split in self.splits if _is_training(split)), self.splits[0])

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """The features as the shards hold them, sorted by name."""
        return tuple(feature.spec for feature in self.config.features)

    @property
    def rows_per_record(self) -> int:
        """How many rows a record holds."""
        return self.config.rows_per_record

    def tasks(self) -> Iterator[Task]:
        """Every task."""
        for number, group in enumerate(self.groups):
            for index in range(group.tasks):
                yield Task(group=number, index=index)

    def shard_count(self, split: str) -> int:
        """How many shards a split has."""
        return next(group.tasks for group in self.groups if split in group.splits)

    def shard_file(self, split: str, index: int) -> str:
        """The path of a shard from the data set's root."""
        return f"{split}/{split}-{index:05d}-of-{self.shard_count(split):05d}.tfrecord"

    def blocks(self, task: Task) -> list[Span]:
        """The blocks that feed a task, in the order of the sources.

        The group's blocks are dealt out by a seeded permutation, so each task draws from all of the group.
        """
        group = self.groups[task.group]
        starts = self._block_starts[task.group]
        count = int(starts[-1])
        if not count:  # a directory whose arrays have no rows
            return []
        key = order.derive(self.config.seed, order.DEAL, task.group)
        dealt = np.sort(order.permute(key, np.arange(task.index, count, group.tasks), count))
        owners = np.searchsorted(starts, dealt, side="right") - 1
        spans = []
        for block, owner in zip(dealt.tolist(), owners.tolist(), strict=True):
            part = group.parts[owner]
            start = (block - int(starts[owner])) * self.block_rows
            stop = min(start + self.block_rows, self.table.parts[part].rows)
            spans.append(Span(part=part, start=start, stop=stop))
        return spans

    @functools.cached_property
    def _block_starts(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each group, the number of each part's first block, and the number of blocks at the end."""
        return tuple(_block_starts(self.table, group.parts, self.block_rows) for group in self.groups)

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
        rows = [self.table.parts[part].rows for part in self._training_group.parts]
        return np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])

    def split_of(self, span: Span) -> npt.NDArray[np.intp]:
        """The split of each row of a span, as numbers in the splits of the part's group.

        A function of seed, part name and row index only: files that are added later move no row.
        """
        if isinstance(self.config.splits, str):
            return np.zeros(span.rows, dtype=np.intp)
        position = order.unit(self._hashes(order.SPLIT, span))
        return np.searchsorted(_bounds(tuple(self.config.splits.values())), position, side="right")

    def training_mask(self, spans: list[Span]) -> npt.NDArray[np.bool_]:
        """Which rows of the spans of one unit of analysis are training rows."""
        training = self._training_group.splits.index(self.training_split)
        return np.concatenate([self.split_of(span) == training for span in spans])

    def row_order(self, spans: list[Span]) -> npt.NDArray[np.int64]:
        """The order of the rows of a task's blocks in its shards: the stable argsort of their hashes."""
        if not spans:
            return np.zeros(0, dtype=np.int64)
        hashes = np.concatenate([self._hashes(order.SHARD_ROWS, span) for span in spans])
        return np.argsort(hashes, kind="stable")

    def _hashes(self, purpose: int, span: Span) -> order.U64:
        part = order.text_key(self.table.parts[span.part].name)
        return order.stream(order.derive(self.config.seed, purpose, part), np.arange(span.start, span.stop))


@functools.lru_cache(maxsize=8)
def _bounds(fractions: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """The upper bounds of all splits but the last, whose bound is 1 whatever the rounding."""
    return np.cumsum(fractions)[:-1]


def _block_starts(table: SourceTable, parts: tuple[int, ...], block_rows: int) -> npt.NDArray[np.int64]:
    counts = [-(-table.parts[part].rows // block_rows) for part in parts]
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _is_training(split: str) -> bool:
    return split.lower() in TRAINING_NAMES


def resolve_config(config: DatasetConfig, table: SourceTable) -> ResolvedConfig:
    """Makes every choice that the user left open.

    Args:
        config: What the user said.
        table: The sources that it is for.

    Raises:
        ConfigError: If what the user said does not fit the sources.
    """
    features = tuple(resolve_feature(f.name, f.dtype, f.shape, config) for f in table.features)
    if table.by_directory and not any(_is_training(str(part.split)) for part in table.parts):
        found = ", ".join(sorted({str(part.split) for part in table.parts}))
        raise ConfigError(
            f"splits: statistics come from the directory {' or '.join(TRAINING_NAMES)}; found {found}. "
            "Rename one, or give fractions"
        )
    splits = "directory" if table.by_directory else config.splits or DEFAULT_SPLITS
    stored = sum(feature.spec.row_bytes for feature in features)
    rows_per_record = config.rows_per_record or choose_rows_per_record(stored)
    if rows_per_record * stored > MAX_RECORD_BYTES:
        raise ConfigError(
            f"rows_per_record: a record holds at most {MAX_RECORD_BYTES} bytes, and a row has {stored}; "
            f"found {rows_per_record}"
        )
    return ResolvedConfig(
        features=features,
        splits=splits,
        seed=config.seed,
        shard_bytes=int(config.shard_bytes),
        rows_per_record=rows_per_record,
    )


def make_plan(table: SourceTable, config: ResolvedConfig) -> Plan:
    """Plans a build.

    Args:
        table: The sources, checked.
        config: The resolved configuration for them.

    Returns:
        The plan; the same for the same arguments, whatever the machine.
    """
    stored = sum(feature.spec.row_bytes for feature in config.features)
    block_bytes = min(max(config.shard_bytes // BLOCKS_PER_SHARD, 1), MAX_BLOCK_BYTES)
    block_rows = max(block_bytes // max(table.row_bytes, stored), 1)
    groups = []
    for splits, parts in _split_groups(table.parts, config.splits):
        largest = max(splits.values())
        rows = sum(table.parts[part].rows for part in parts)
        blocks = int(_block_starts(table, parts, block_rows)[-1])
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
        analysis_rows=max(ANALYSIS_BYTES // table.row_bytes, 1),
    )


def _split_groups(
    parts: tuple[Part, ...], splits: str | Mapping[str, float]
) -> list[tuple[dict[str, float], tuple[int, ...]]]:
    """The splits, with their fractions, that each group of parts goes to."""
    if not isinstance(splits, str):
        return [(dict(splits), tuple(range(len(parts))))]
    directories: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        assert part.split is not None, "with splits by directory, the scan gives every part a split"
        directories.setdefault(part.split, []).append(number)
    return [({name: 1.0}, tuple(numbers)) for name, numbers in sorted(directories.items())]


def choose_rows_per_record(row_bytes: int) -> int:
    """The power of two that makes a record nearest to 128 KiB, and at least 1."""
    return int(2 ** max(round(math.log2(RECORD_BYTES / row_bytes)), 0))


def describe(plan: Plan) -> dict[str, Any]:
    """A forecast of the output: rows, bytes and shards of each split, and the bytes of rows that a task holds.

    Rows and bytes are expected values where rows are split by fraction.
    """
    stored = sum(spec.row_bytes for spec in plan.specs)
    splits: dict[str, dict[str, int]] = {}
    for group in plan.groups:
        rows = sum(plan.table.parts[part].rows for part in group.parts)
        for split in group.splits:
            fraction = 1.0 if isinstance(plan.config.splits, str) else plan.config.splits[split]
            expected = round(rows * fraction)
            splits[split] = {"rows": expected, "bytes": expected * stored, "shards": group.tasks}
    task_rows = max(sum(plan.table.parts[p].rows for p in group.parts) / group.tasks for group in plan.groups)
    return {
        "rows": plan.table.rows,
        "source_bytes": plan.table.nbytes,
        "task_bytes": round(task_rows * plan.table.row_bytes),
        "splits": splits,
    }
