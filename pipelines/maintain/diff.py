"""What differs between two data sets: features, statistics of the training rows, and the rows themselves."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec
from pipelines.maintain.row_hashes import rows_by_hash
from pipelines.output.directory import read_manifest, read_statistics
from pipelines.results import Block, Result, Table
from pipelines.statistics.summary import Statistics
from pipelines.storage.file_systems import StorageOptions, configure
from pipelines.storage.files import Path

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
        counts = all(first == second for first, second in self.splits.values())
        return counts and not self.features and not self.statistics and self.only == (0, 0)

    def blocks(self) -> list[Block]:
        """What differs, or that nothing does."""
        if self.same:
            return [f"{self.roots[0]} and {self.roots[1]} have the same features, statistics and rows"]
        said: list[Block] = []
        for title, found in (("Features", self.features), ("Statistics of the training rows", self.statistics)):
            if found:
                columns = ("feature", "what", "column:", "first", "second")
                rows = tuple(tuple(getattr(row, name.rstrip(":")) for name in columns) for row in found)
                said.append(Table(columns=columns, rows=rows, title=title))
        splits = tuple((name, *counts) for name, counts in self.splits.items())
        said.append(Table(columns=("split", "rows of the first:", "rows of the second:"), rows=splits, title="Rows"))
        if self.only is None:
            return [*said, "\nRows are not compared: no feature is stored alike in both"]
        first, second = self.only
        by = f"compared by {', '.join(self.compared)}"
        return [
            *said,
            f"\n{self.shared:,} rows are in both, {first:,} in the first alone, {second:,} in the second: {by}",
        ]


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
    stored = [{name: [getattr(spec, field) for field in EXACT] for name, spec in own.items()} for own in specs]
    alike = tuple(name for name, found in stored[0].items() if stored[1].get(name) == found)
    rows = [_rows(manifest) for manifest in manifests]
    names = dict.fromkeys([*manifests[0].splits, *manifests[1].splits])
    shared = only = None
    if alike:
        shared = _count_shared(roots, manifests, alike)
        only = (sum(rows[0].values()) - shared, sum(rows[1].values()) - shared)
    return Diff(
        roots=roots,
        features=tuple(_compare_features(*specs)),
        statistics=tuple(_compare_statistics(*(found.statistics for found in map(read_statistics, roots, manifests)))),
        splits={name: (rows[0].get(name, 0), rows[1].get(name, 0)) for name in names},
        compared=alike,
        shared=shared,
        only=only,
    )


def _rows(manifest: Manifest) -> dict[str, int]:
    return {name: manifest.rows(name) for name in manifest.splits}


def _compare_features(first: Mapping[str, FeatureSpec], second: Mapping[str, FeatureSpec]) -> Iterator[Difference]:
    for name in dict.fromkeys([*first, *second]):
        if name not in first or name not in second:
            has = ["there" if name in specs else "" for specs in (first, second)]
            yield Difference(feature=name, what="feature", first=has[0], second=has[1])
            continue
        for field in dataclasses.fields(FeatureSpec):
            values = getattr(first[name], field.name), getattr(second[name], field.name)
            if values[0] != values[1]:
                yield Difference(feature=name, what=field.name, first=str(values[0]), second=str(values[1]))


def _compare_statistics(first: Mapping[str, Statistics], second: Mapping[str, Statistics]) -> Iterator[Difference]:
    """The elements that differ most, of each statistic of each feature that has the same shape in both."""
    for name in first.keys() & second.keys():
        for what, values in first[name].arrays().items():
            against = getattr(second[name], what)
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
    specs = [{spec.name: spec for spec in manifest.features} for manifest in manifests]
    compared = [[known[name] for name in names] for known in specs]
    entries = rows_by_hash(*zip(roots, manifests, compared, strict=True), stage=STAGE)
    rows_of_first = sum(_rows(manifests[0]).values())
    return sum(_shared_of(found, rows_of_first) for found in entries)


def _shared_of(entries: npt.NDArray[Any], rows_of_first: int) -> int:
    _, group = np.unique(entries[["first", "second"]], return_inverse=True)
    in_first = entries["row"] < rows_of_first
    counts = [np.bincount(group[mask], minlength=int(group.max()) + 1) for mask in (in_first, ~in_first)]
    return int(np.minimum(*counts).sum())
