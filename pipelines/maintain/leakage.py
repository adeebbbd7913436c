"""Finds rows of a finished data set that are in more than one split: by hashes only, in bounded memory."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec
from pipelines.errors import ConfigError
from pipelines.maintain.row_hashes import rows_by_hash
from pipelines.output.directory import read_manifest
from pipelines.results import Block, Result, Table
from pipelines.storage.file_systems import StorageOptions, configure
from pipelines.storage.files import Path

STAGE = "leakage"

EXAMPLES = 10
MATRIX_CELLS = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a row is stored.

    Attributes:
        file: The shard, from the data set's root.
        row: The row's number in the shard.
    """

    file: str
    row: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedRows:
    """The rows that two splits share.

    Attributes:
        splits: The names of the two splits.
        distinct: How many different rows are in both.
        rows: How many rows of each split are also in the other.
    """

    splits: tuple[str, str]
    distinct: int
    rows: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaks(Result):
    """What a search for rows in more than one split has found.

    Attributes:
        features: The features that were compared.
        rows: How many rows were compared.
        distinct: How many different rows are in more than one split.
        pairs: Every two splits that share rows, in the order of the manifest.
        examples: For some of the rows that are in more than one split, one place in each of these splits.
    """

    features: tuple[str, ...]
    rows: int
    distinct: int
    pairs: tuple[SharedRows, ...]
    examples: tuple[tuple[Place, ...], ...]

    def blocks(self) -> list[Block]:
        """How many rows each two splits share, and some of them."""
        compared = f"{self.rows:,} rows compared by {', '.join(self.features)}"
        if not self.distinct:
            return [f"No row is in more than one split: {compared}"]
        examples = ["  " + ", ".join(f"{place.file} {place.row}" for place in places) for places in self.examples]
        head = f"{self.distinct:,} different rows are in more than one split: {compared}\n"
        return [head, self.table(), "\nExamples (shard, row):\n", *examples]

    def table(self) -> Table:
        """What each two splits share."""
        columns = ("splits", "different rows in both:", "rows of the first:", "rows of the second:")
        rows = ((" and ".join(pair.splits), pair.distinct, *pair.rows) for pair in self.pairs)
        return Table(columns=columns, rows=tuple(rows))


def leakage(
    output: Path, *, features: Sequence[str] | None = None, storage_options: StorageOptions | None = None
) -> Leaks:
    """Finds rows that are in more than one split of a data set, equal bit for bit in what is compared.

    Each row is hashed to 128 bits. The hashes go to a temporary directory (24 bytes a row), sorted into buckets by
    their first bits, and each bucket is searched in memory.

    Args:
        output: The data set.
        features: The features that are compared; None for all whose role is `input`.
        storage_options: As in `refit`.

    Returns:
        How many different rows are in more than one split, which splits share how many, and where some of them are.

    Raises:
        ManifestError: If the directory holds no manifest that can be read.
        ConfigError: If a feature is not one of the data set, or none is compared.
        DataError: If a shard is not as the manifest says.
        OSError: If a shard cannot be read, or the temporary directory is full.
    """
    configure(storage_options or {})
    root = os.fspath(output)
    manifest = read_manifest(root)
    compared = _compared(manifest, features)
    search = _Search(manifest)
    for entries in rows_by_hash((root, manifest, compared), stage=STAGE):
        search.add(entries)
    return search.leaks(tuple(spec.name for spec in compared))


def _compared(manifest: Manifest, names: Sequence[str] | None) -> tuple[FeatureSpec, ...]:
    known = {spec.name: spec for spec in manifest.features}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"features: expected some of {', '.join(known)}; found {name!r}")
    found = tuple(spec for spec in manifest.features if (spec.role == "input" if names is None else spec.name in names))
    if not found:
        raise ConfigError(
            f"features: expected features whose rows are compared, some of {', '.join(known)}; found none"
        )
    return found


def _repeated(entries: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The entries that share the first half of their hashes with another, sorted by hash and then row.

    Most rows are the only one of their kind, and one key is sorted three times as fast as three.
    """
    by_first = np.argsort(entries["first"], kind="stable")
    first = entries["first"][by_first]
    same = np.concatenate([[False], first[1:] == first[:-1], [False]])
    entries = entries[by_first[same[1:] | same[:-1]]]
    return entries[np.lexsort((entries["row"], entries["second"], entries["first"]))]


class _Search:
    """Adds up what the buckets show."""

    def __init__(self, manifest: Manifest) -> None:
        self._splits = tuple(manifest.splits)
        self._shards = [shard for shards in manifest.splits.values() for shard in shards]
        owners = [number for number, shards in enumerate(manifest.splits.values()) for _ in shards]
        self._shard_split = np.array(owners, dtype=np.intp)
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
        count = len(self._splits)
        self._distinct = 0
        self._pair_distinct = np.zeros((count, count), dtype=np.int64)
        self._pair_rows = np.zeros((count, count), dtype=np.int64)
        self._examples: list[tuple[Place, ...]] = []

    def add(self, entries: npt.NDArray[Any]) -> None:
        """Searches one bucket, whose entries are in the order of their rows."""
        entries = _repeated(entries)
        if not len(entries):
            return
        same = (entries["first"][1:] == entries["first"][:-1]) & (entries["second"][1:] == entries["second"][:-1])
        splits = self._shard_split[self._shard_of(entries["row"])]
        # Rows are numbered split by split, so the rows that are equal and in one split are one run.
        runs = np.flatnonzero(np.concatenate([[True], ~same | (splits[1:] != splits[:-1])]))
        counts = np.diff(runs, append=len(entries))
        group = np.cumsum(np.concatenate([[True], ~same]))[runs]
        shared = np.bincount(group)[group] > 1
        runs, counts = runs[shared], counts[shared]
        _, group = np.unique(group[shared], return_inverse=True)
        self._add_examples(entries["row"][runs], group)
        step = max(MATRIX_CELLS // len(self._splits), 1)
        for start in range(0, int(group[-1]) + 1 if len(group) else 0, step):
            first, last = np.searchsorted(group, [start, start + step])
            self._add_groups(group[first:last] - start, splits[runs[first:last]], counts[first:last])

    def _add_groups(
        self, group: npt.NDArray[np.intp], splits: npt.NDArray[np.intp], counts: npt.NDArray[np.int64]
    ) -> None:
        """Counts rows that are in several splits, given how many of each group of equal rows are in each split."""
        rows = np.zeros((int(group[-1]) + 1, len(self._splits)))
        rows[group, splits] = counts
        found = (rows > 0).astype(np.float64)
        self._distinct += len(rows)
        self._pair_distinct += (found.T @ found).astype(np.int64)
        self._pair_rows += (rows.T @ found).astype(np.int64)

    def _add_examples(self, rows: npt.NDArray[np.uint64], group: npt.NDArray[np.intp]) -> None:
        for number in range(min(EXAMPLES - len(self._examples), int(group[-1]) + 1 if len(group) else 0)):
            self._examples.append(tuple(self._place(row) for row in rows[group == number].tolist()))

    def _shard_of(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        return np.searchsorted(self._starts, rows.astype(np.int64), side="right") - 1

    def _place(self, row: int) -> Place:
        shard = int(self._shard_of(np.array(row)))
        return Place(file=self._shards[shard].file, row=row - int(self._starts[shard]))

    def leaks(self, features: tuple[str, ...]) -> Leaks:
        """What was found in all buckets."""
        pairs = tuple(
            SharedRows(
                splits=(self._splits[first], self._splits[second]),
                distinct=int(self._pair_distinct[first, second]),
                rows=(int(self._pair_rows[first, second]), int(self._pair_rows[second, first])),
            )
            for first, second in itertools.combinations(range(len(self._splits)), 2)
            if self._pair_distinct[first, second]
        )
        return Leaks(
            features=features,
            rows=int(self._starts[-1]),
            distinct=self._distinct,
            pairs=pairs,
            examples=tuple(self._examples),
        )
