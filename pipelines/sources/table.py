"""The source table: the arrays of a data set, their headers read and checked, and aligned into parts."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.config.feature import Feature
from pipelines.config.schema import ConstantSource, DatasetConfig, FeatureConfig
from pipelines.errors import Problem, SourceError
from pipelines.runners.process_setup import without_collector
from pipelines.sources.arrays import Arrays
from pipelines.sources.checks import (
    LocatedArray,
    check_class_tree,
    check_classes,
    check_equal,
    check_parts,
    check_rows,
    locate_arrays,
    no_rows,
)
from pipelines.sources.headers import FileHeaders, HeaderReader, cut, read_here
from pipelines.sources.layout_inference import Found, propose
from pipelines.sources.listing import list_sources
from pipelines.sources.packed_parts import PackedParts
from pipelines.sources.parts import Part, encode
from pipelines.sources.path_layout import SourceFile, arrange, check_names, find_splits
from pipelines.sources.row_alignment import share
from pipelines.sources.sidecar_tables import check_tables, join_tables
from pipelines.storage import files
from pipelines.storage.directories import FileInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceTable:
    """Everything that is known of the sources before a value is read.

    Attributes:
        features: The features, sorted by name.
        parts: The parts, sorted by name; together they are all rows, in file order.
        directories: The names of the classes 0, 1, … of features whose source is the directory, sorted.
        skipped: What was wrong with the files that were left out, where that was asked for.
    """

    root: str
    features: tuple[Feature, ...]
    parts: Sequence[Part]
    directories: tuple[str, ...] = ()
    skipped: tuple[Problem, ...] = ()
    rows_before: int = 0  # those of a data set that these are added to

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the parts packed, and what would take long to gather from these."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        gathered = {name: getattr(self, name) for name in ("part_rows", "part_compressed", "part_chunk_rows")}
        packed = self.parts if isinstance(self.parts, PackedParts) else PackedParts(self.parts)
        return own | gathered | {"parts": packed}

    @functools.cached_property
    def part_rows(self) -> npt.NDArray[np.int64]:
        """The number of rows of each part."""
        return np.array([part.rows for part in self.parts], np.int64)

    @functools.cached_property
    def part_compressed(self) -> npt.NDArray[np.bool_]:
        """Whether a source of each part is compressed."""
        return np.array([any(source.compressed for source in part.sources.values()) for part in self.parts], bool)

    @functools.cached_property
    def part_chunk_rows(self) -> npt.NDArray[np.int64]:
        """How many rows of each part its containers store together: in the source of which most are."""
        axes = {feature.name: feature.row_axes for feature in self.features}
        apart = {f.name: 1 if f.window is None else math.prod(f.window.strides) for f in self.features}
        found = np.ones(len(self.parts), np.int64)
        for number, part in enumerate(self.parts):
            for name, source in part.sources.items():
                if source.chunk > 1 and axes[name]:
                    rows = source.chunk * math.prod(source.shape[1 : axes[name]]) // apart[name]
                    found[number] = max(found[number], rows)
        return found

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.part_rows.sum())

    def rows_of(self, parts: Sequence[int]) -> int:
        """The number of rows of some parts, given their numbers."""
        return int(self.part_rows[np.asarray(parts, np.int64)].sum())

    @property
    def row_bytes(self) -> int:
        """The bytes of one row, all features together; on average where rows differ, and at least 1."""
        return max(1, round(math.fsum(feature.row_bytes for feature in self.features)))

    @property
    def nbytes(self) -> int:
        """The bytes of all rows."""
        return self.rows * self.row_bytes

    @property
    def by_directory(self) -> bool:
        """Whether directories name the splits."""
        return all(part.split is not None for part in self.parts)

    @functools.cached_property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """For each part the number of its first row among all rows, and the number of rows at the end."""
        return np.concatenate([[0], np.cumsum(self.part_rows)]) + self.rows_before

    @property
    def rows_in_all(self) -> int:
        """The number of rows, with those that came before."""
        return int(self.first_rows[-1])

    @functools.cached_property
    def class_numbers(self) -> npt.NDArray[np.int64]:
        """For each part the number of its directory in `directories`; -1 where it has none."""
        numbers = {name: number for number, name in enumerate(self.directories)}
        return np.array([numbers.get(part.directory or "", -1) for part in self.parts], np.int64)

    def fingerprint(self, *, modified: bool) -> str:
        """A BLAKE2b digest of the parts, 32 hexadecimal digits: names, splits, and each array's path, size and layout.

        It depends neither on where the root is nor on the order of a listing; on the files' times if `modified`.
        """
        return self._fingerprints[modified]

    @functools.cached_property
    def _fingerprints(self) -> tuple[str, str]:
        """The digest without the files' times, and with them."""
        without, with_times = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
        for part in self.parts:
            sources = {name: source.to_json() for name, source in part.sources.items()}
            for digest in (with_times, without):
                line = encode([part.name, part.split, part.rows, sources])
                digest.update(line.encode() + b"\n")
                for source in sources.values():
                    source.pop("modified", None)
        return without.hexdigest(), with_times.hexdigest()


def scan(
    source: str | Arrays, config: DatasetConfig, *, read_headers: HeaderReader = read_here, only: Sequence[str] = ()
) -> SourceTable:
    """Finds the sources, reads their headers, and checks that they fit together.

    Args:
        source: The directory, or arrays that will be the files of one.
        config: What the user said about features and splits, and about files that cannot be used.
        read_headers: Reads the headers of chunks of files; this process unless another way is given.
        only: Patterns of paths from the directory, where only files that match one are sources.

    Raises:
        SourceError: With everything that is wrong, if anything is. With `on_error: skip`, files that have something
            wrong of their own are left out with the other files of their part, up to `max_bad_files`.
    """
    with without_collector():  # whose passes are a third of a scan
        if isinstance(source, Arrays):  # of which the user has given each a name
            arrays = _Files(root=source.root, listing=source.listing, read_headers=source.read_headers)
            found, describe = arrays.align(config), source.describe
        else:
            listing, root = list_sources(source, config, only=only), source
            found = _Files(root=root, listing=listing, read_headers=read_headers).recognise(config)
            describe = lambda path: files.locate(root, path) if path else root  # noqa: E731
        if found.problems:
            raise SourceError(dataclasses.replace(problem, path=describe(problem.path)) for problem in found.problems)
        left_out = [dataclasses.replace(problem, path=describe(problem.path)) for problem in found.skipped]
        return _table(found, skipped=left_out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Files:
    """The files of a scan, whose headers are read once, and read in one way or another."""

    root: str
    listing: Mapping[str, FileInfo]
    read_headers: HeaderReader
    headers: dict[str, FileHeaders] = dataclasses.field(default_factory=dict)

    def align(self, config: DatasetConfig) -> Found:
        """Finds the arrays, and what does not fit together, as a configuration says."""
        entries, problems = arrange(self.listing, config)
        by_directory, split_problems = find_splits(entries, config)
        self._read(entries)
        arrays, faults = locate_arrays(entries, self.headers, self.listing, config)
        faults += check_equal(arrays, majority=config.on_error == "skip")
        places, dealt, unpaired, why = share(self.root, entries, arrays, self.listing)
        skipped: list[Problem] = []
        if config.on_error == "skip":
            skipped = faults
            places, dealt, faults = _leave_out(skipped, config.max_bad_files, entries, places, dealt)
        problems += faults + split_problems + unpaired
        problems += _check_together(places, self.headers, dealt, config)
        if any(said.source == "directory" for said in config.features.values()):
            problems += check_classes(dealt, by_directory=by_directory)
        if not problems and not any(array.rows for array in dealt):
            problems += no_rows(dealt, skipped)
        return Found(
            root=self.root,
            listing=self.listing,
            headers=self.headers,
            config=config,
            entries=entries,
            arrays=arrays,
            dealt=dealt,
            problems=problems,
            skipped=skipped,
            by_directory=by_directory,
            why=why,
        )

    def _read(self, entries: Iterable[SourceFile]) -> None:
        """Reads the headers that were not read before."""
        paths = dict.fromkeys(entry.path for entry in entries if entry.path not in self.headers)
        if not paths:
            return
        chunks = cut([(path, self.listing[path].size) for path in paths])
        results = (result for chunk in self.read_headers(self.root, chunks) for result in chunk)
        self.headers.update(zip((path for chunk in chunks for path, _ in chunk), results, strict=True))

    def recognise(self, config: DatasetConfig) -> Found:
        """The same, where the user has not said how files are read: the first way in which they fit together."""
        config, why, tables = join_tables(self.root, self.listing, config)
        found = self._recognise(config)
        problems = check_tables(tables, self.headers, found.problems)
        return dataclasses.replace(found, problems=problems, why={**why, **found.why})

    def _recognise(self, config: DatasetConfig) -> Found:
        wrong = first = self.align(config)
        for proposal in propose(first):
            if isinstance(proposal, Problem):
                return dataclasses.replace(first, problems=[proposal])
            other = self.align(proposal.config)
            if not other.problems and (other.why or not proposal.pairs):
                return dataclasses.replace(other, why={**other.why, **proposal.why})
            if proposal.meant:
                wrong = other
            if proposal.last:
                break
        return wrong


def _leave_out(
    faults: Sequence[Problem],
    limit: int,
    entries: Iterable[SourceFile],
    places: Sequence[SourceFile],
    dealt: Iterable[LocatedArray],
) -> tuple[list[SourceFile], list[LocatedArray], list[Problem]]:
    """Without the parts in which a file is bad: the places and the arrays that were dealt out, and what is wrong still.

    That is where more files are bad than may be, and where without one of the `entries` a feature has none.
    """
    bad = {fault.path for fault in faults}
    parts = {entry.part for entry in places if entry.path in bad}
    arrays = [array for array in dealt if array.entry.part not in parts]
    left = {array.entry.feature for array in arrays}
    lost = {entry.path for entry in entries if entry.feature and entry.feature not in left} if left else set()
    wrong = [fault for fault in faults if fault.path in lost]
    if len(bad) > limit:
        said = Problem(path="", expected=f"at most {limit} bad files (max_bad_files)", found=f"{len(bad)}")
        wrong = [said, *faults, *wrong]
    return [entry for entry in places if entry.part not in parts], arrays, wrong


def _check_together(
    entries: Sequence[SourceFile],
    headers: Mapping[str, FileHeaders],
    arrays: Sequence[LocatedArray],
    config: DatasetConfig,
) -> list[Problem]:
    """What is wrong with the arrays as a whole: features, parts, rows and classes."""
    broken = [entry for entry in entries if any(member.error for member in headers[entry.path])]
    # What a file that cannot be read would have held is known by its name only.
    places = [(array.feature, array.entry) for array in arrays]
    problems = check_names(places + [(entry.feature, entry) for entry in broken if entry.feature], config)
    if any(not entry.feature for entry in broken):
        problems = [problem for problem in problems if problem.path]
    pairs = check_parts(arrays, broken) + check_rows(arrays)
    return problems + (check_class_tree(arrays, paired=not pairs) or pairs)


def _table(found: Found, *, skipped: Iterable[Problem]) -> SourceTable:
    """The table of arrays that passed all checks."""
    config, by_directory = found.config, found.by_directory
    features: dict[str, list[LocatedArray]] = collections.defaultdict(list)
    parts: dict[str, dict[str, LocatedArray]] = collections.defaultdict(dict)
    for array in found.dealt:
        features[array.feature].append(array)
        parts[array.entry.part][array.feature] = array
    made = [_made(name, said.source) for name, said in config.features.items() if said.source is not None]
    classes = any(feature.origin == "directory" for feature in made)
    table = [_part(name, own, by_directory=by_directory, classes=classes) for name, own in sorted(parts.items())]
    return SourceTable(
        root=files.absolute(found.root),
        features=tuple(
            sorted([_feature(name, own, found) for name, own in features.items()] + made, key=attrgetter("name"))
        ),
        parts=tuple(table),
        directories=tuple(sorted({part.directory for part in table if part.directory is not None})),
        skipped=tuple(skipped),
    )


def _feature(name: str, arrays: Sequence[LocatedArray], found: Found) -> Feature:
    any_array = arrays[0]
    dtype, unit, shape = any_array.kind
    average = None
    if dtype.kind in "SU":
        dtype = max((array.dtype for array in arrays), key=lambda dtype: dtype.itemsize).newbyteorder("=")
    if dtype.kind in "SU" or any_array.ragged:
        average = sum(array.nbytes for array in arrays) / max(1, sum(array.rows for array in arrays))
    return Feature(
        name=name,
        dtype=dtype,
        shape=shape,
        row_axes=any_array.row_axes,
        window=any_array.window,
        unit=unit,
        average_bytes=average,
        files=found.config.features.get(name, FeatureConfig()).files,
        why=found.why.get(name, ""),
    )


def _made(name: str, source: Literal["index", "directory"] | ConstantSource) -> Feature:
    if not isinstance(source, ConstantSource):
        return Feature(name=name, dtype=np.dtype(np.int64), shape=(), row_axes=1, origin=source)
    value = source.constant
    dtype = np.dtype(np.bool_ if isinstance(value, bool) else np.int64 if isinstance(value, int) else np.float32)
    return Feature(name=name, dtype=dtype, shape=(), row_axes=1, origin="constant", constant=value)


def _part(name: str, arrays: Mapping[str, LocatedArray], *, by_directory: bool, classes: bool) -> Part:
    any_array = next(iter(arrays.values()))
    return Part(
        name=name,
        rows=any_array.rows,
        sources={feature: arrays[feature].source for feature in sorted(arrays)},
        split=any_array.entry.directory if by_directory else None,
        directory=any_array.entry.holder(by_directory=by_directory) if classes else None,
    )
