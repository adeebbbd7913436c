"""What differs between two data sets: features, statistics of the training rows, and the rows themselves."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest
from loaders.format.names import STATISTICS
from loaders.format.spec import FeatureSpec
from pipelines import counters
from pipelines.maintain.buckets import Buckets
from pipelines.maintain.row_hashes import hash_shard
from pipelines.output.directory import Output, read_manifest
from pipelines.results import Block, Result, Table
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.statistics.summary import Statistics
from pipelines.storage import files
from pipelines.storage.connections import StorageOptions, configure
from pipelines.storage.files import Path
from pipelines.storage.temporary import temporary_directory

STAGE = "diff"

EXACT = ("name", "dtype", "shape", "ragged")
"""What two features have in common whose values can be compared byte by byte."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that differs.

    Attributes:
        feature: The feature.
        what: A field of its description, or a statistic.
        column: Where an element differs most, its index in the flattened statistic; or None.
        first: What the first data set has; "" where it lacks the feature.
        second: What the second one has.
    """

    feature: str
    what: str
    column: int | None = None
    first: str
    second: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diff(Result):
    """How two data sets differ.

    Attributes:
        roots: The two data sets.
        features: How the descriptions of their features differ.
        statistics: How the statistics of their training rows differ.
        splits: For each split, how many rows it has in either data set.
        compared: The features by which rows were compared: those that are stored alike in both.
        shared: How many rows are in both, each as often as it is in both; None where no feature is stored alike.
        only: How many rows are in the first alone, and in the second alone; None likewise.
    """

    roots: tuple[str, str]
    features: tuple[Difference, ...]
    statistics: tuple[Difference, ...]
    splits: Mapping[str, tuple[int, int]]
    compared: tuple[str, ...]
    shared: int | None
    only: tuple[int, int] | None

    @property
    def same(self) -> bool:
        """Whether the data sets have the same features, statistics, and rows in splits of the same size."""
        counts = all(one == other for one, other in self.splits.values())
        return counts and not self.features and not self.statistics and self.only == (0, 0)

    def blocks(self) -> list[Block]:
        """What differs, or that nothing does."""
        if self.same:
            return [f"{self.roots[0]} and {self.roots[1]} have the same features, statistics and rows"]
        said: list[Block] = []
        for title, found in (("Features", self.features), ("Statistics of the training rows", self.statistics)):
            if found:
                columns = ("feature", "what", "column:", "first", "second")
                rows = tuple(tuple(getattr(each, name.rstrip(":")) for name in columns) for each in found)
                said.append(Table(columns=columns, rows=rows, title=title))
        splits = tuple((name, *counts) for name, counts in self.splits.items())
        said.append(Table(columns=("split", "rows of the first:", "rows of the second:"), rows=splits, title="Rows"))
        if self.only is None:
            return [*said, "\nRows are not compared: no feature is stored alike in both"]
        one, other = self.only
        by = f"compared by {', '.join(self.compared)}"
        return [*said, f"\n{self.shared:,} rows are in both, {one:,} in the first alone, {other:,} in the second: {by}"]


def diff(first: Path, second: Path, *, storage_options: StorageOptions | None = None) -> Diff:
    """Compares two data sets; rows bit for bit, whatever their order and their splits.

    Each row is hashed to 128 bits; the hashes go to a temporary directory (24 bytes a row), as in `leakage`.

    Args:
        first: A data set.
        second: Another one.
        storage_options: As in `refit`.

    Returns:
        How they differ.

    Raises:
        ManifestError: If a directory holds no manifest that can be read.
        DataError: If a shard is not as its manifest says.
        OSError: If a file cannot be read, or the temporary directory is full.
    """
    configure(storage_options or {})
    roots = os.fspath(first), os.fspath(second)
    manifests = read_manifest(roots[0]), read_manifest(roots[1])
    specs = tuple({spec.name: spec for spec in manifest.features} for manifest in manifests)
    alike = tuple(name for name, spec in specs[0].items() if name in specs[1] and _stored_alike(spec, specs[1][name]))
    rows = [_rows(manifest) for manifest in manifests]
    names = dict.fromkeys([*manifests[0].splits, *manifests[1].splits])
    shared = only = None
    if alike:
        shared = _count_shared(roots, manifests, alike)
        only = (sum(rows[0].values()) - shared, sum(rows[1].values()) - shared)
    return Diff(
        roots=roots,
        features=tuple(_compare_features(*specs)),
        statistics=tuple(_compare_statistics(*map(_statistics, roots, manifests))),
        splits={name: (rows[0].get(name, 0), rows[1].get(name, 0)) for name in names},
        compared=alike,
        shared=shared,
        only=only,
    )


def _rows(manifest: Manifest) -> dict[str, int]:
    return {name: manifest.rows(name) for name in manifest.splits}


def _stored_alike(one: FeatureSpec, other: FeatureSpec) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in EXACT)


def _compare_features(one: Mapping[str, FeatureSpec], other: Mapping[str, FeatureSpec]) -> Iterator[Difference]:
    for name in dict.fromkeys([*one, *other]):
        if name not in one or name not in other:
            has = ["there" if name in specs else "" for specs in (one, other)]
            yield Difference(feature=name, what="feature", first=has[0], second=has[1])
            continue
        for field in (each.name for each in dataclasses.fields(one[name])):
            values = getattr(one[name], field), getattr(other[name], field)
            if values[0] != values[1]:
                yield Difference(feature=name, what=field, first=str(values[0]), second=str(values[1]))


def _statistics(root: str, manifest: Manifest) -> Mapping[str, Statistics]:
    path = Output(root).path(manifest.place(STATISTICS))
    return TrainingStatistics.load(files.read_bytes(path)).statistics if files.exists(path) else {}


def _compare_statistics(one: Mapping[str, Statistics], other: Mapping[str, Statistics]) -> Iterator[Difference]:
    """The elements that differ most, of each statistic of each feature that has the same shape in both."""
    for name in one.keys() & other.keys():
        for what, values in one[name].arrays().items():
            against = getattr(other[name], what)
            if values.shape != against.shape or np.array_equal(values, against, equal_nan=True):
                continue
            differ = ~((values == against) | (np.isnan(values) & np.isnan(against)))
            apart = np.where(differ, np.nan_to_num(np.abs(values.astype(np.float64) - against), nan=np.inf), -1)
            column = int(np.argmax(apart))
            numbers = [f"{array.reshape(-1)[column]:.6g}" for array in (values, against)]
            place = column if values.size > 1 else None
            yield Difference(feature=name, what=what, column=place, first=numbers[0], second=numbers[1])


def _count_shared(roots: tuple[str, str], manifests: tuple[Manifest, Manifest], names: tuple[str, ...]) -> int:
    """How many rows are in both data sets, each as often as it is in both."""
    total = [sum(_rows(manifest).values()) for manifest in manifests]
    with temporary_directory("diff") as directory:
        buckets, first = Buckets(directory, sum(total)), 0
        for root, manifest in zip(roots, manifests, strict=True):
            specs = {spec.name: spec for spec in manifest.features}
            for shard in (shard for shards in manifest.splits.values() for shard in shards):
                for hashes in hash_shard(root, shard, manifest, [specs[name] for name in names]):
                    buckets.add(hashes, first)
                    first += len(hashes)
                counters.advance(STAGE, rows=shard.rows, size=shard.bytes)
        return sum(_shared_of(entries, total[0]) for entries in buckets.read())


def _shared_of(entries: npt.NDArray[Any], rows_of_first: int) -> int:
    _, group = np.unique(entries[["first", "second"]], return_inverse=True)
    in_first = entries["row"] < rows_of_first
    counts = [np.bincount(group[mask], minlength=int(group.max()) + 1) for mask in (in_first, ~in_first)]
    return int(np.minimum(*counts).sum())
