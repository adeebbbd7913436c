"""The source table: the files of a data set, their headers read and checked, and aligned into parts."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipelines import files
from pipelines.config import DatasetConfig
from pipelines.errors import Problem, SourceError
from pipelines.files import FileInfo
from pipelines.layout import SUFFIX, Entry, Layout, arrange
from pipelines.npy import Header, NpyError, read_header

OPEN_AT_ONCE = 16
"""Headers read at a time: in an object store each waits tens of milliseconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One `.npy` file, as its header describes it.

    Attributes:
        path: The path from the root, with forward slashes.
        dtype: NumPy's text of the dtype, with the file's byte order, such as `>f4`.
        shape: The shape of the whole array.
        fortran: Whether the first axis varies fastest.
        offset: Where the values begin, in bytes.
        size: The bytes of the file.
        modified: When the file was last changed, in seconds since 1970.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    offset: int
    size: int
    modified: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A run of rows that one file of each feature holds.

    Attributes:
        name: What is left of the files' paths without the feature's name.
        rows: How many rows each of the files holds.
        sources: The file of each feature.
        split: The split that the directory names, or None where rows are split by fractions.
    """

    name: str
    rows: int
    sources: Mapping[str, Source]
    split: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feature:
    """What all files of a feature have in common.

    Attributes:
        name: The feature.
        dtype: The dtype, in this machine's byte order.
        shape: The shape of one row.
        row_axes: How many leading axes of an array count rows.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    row_axes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceTable:
    """Everything that is known of the sources before a value is read.

    Attributes:
        root: The directory.
        features: The features, sorted by name.
        parts: The parts, sorted by name; together they are all rows, in file order.
    """

    root: str
    features: tuple[Feature, ...]
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(part.rows for part in self.parts)

    @property
    def row_bytes(self) -> int:
        """The bytes of one row, all features together."""
        return sum(math.prod(feature.shape) * feature.dtype.itemsize for feature in self.features)

    @property
    def nbytes(self) -> int:
        """The bytes of all rows."""
        return self.rows * self.row_bytes

    @property
    def by_directory(self) -> bool:
        """Whether directories name the splits."""
        return all(part.split is not None for part in self.parts)

    def fingerprint(self, *, modified: bool) -> str:
        """A BLAKE2b digest of the parts: names, splits, and each file's path, size and layout.

        It depends neither on where the root is nor on the order of a listing.

        Args:
            modified: Whether the files' times count too.

        Returns:
            32 hexadecimal digits.
        """
        digest = hashlib.blake2b(digest_size=16)
        for part in self.parts:
            sources = {name: dataclasses.asdict(source) for name, source in part.sources.items()}
            if not modified:
                for source in sources.values():
                    del source["modified"]
            line = json.dumps([part.name, part.split, part.rows, sources], sort_keys=True)
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Array:
    """A file in its place, whose header could be read."""

    entry: Entry
    info: FileInfo
    header: Header
    row_axes: int

    @property
    def rows(self) -> int:
        return math.prod(self.row_axes_shape)

    @property
    def row_axes_shape(self) -> tuple[int, ...]:
        return self.header.shape[: self.row_axes]

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.header.shape[self.row_axes :]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.header.dtype.newbyteorder("=")

    @property
    def source(self) -> Source:
        return Source(
            path=self.info.path,
            dtype=self.header.dtype.str,
            shape=self.header.shape,
            fortran=self.header.fortran,
            offset=self.header.offset,
            size=self.info.size,
            modified=self.info.modified,
        )

    def problem(self, expected: str, found: str) -> Problem:
        return Problem(path=self.entry.path, feature=self.entry.feature, expected=expected, found=found)


def scan(root: str, config: DatasetConfig) -> SourceTable:
    """Finds the sources, reads their headers, and checks that they fit together.

    Args:
        root: The directory.
        config: What the user said about features and splits.

    Returns:
        The table.

    Raises:
        SourceError: With everything that is wrong, if anything is.
    """
    try:
        listing = {info.path: info for info in files.list_files(root) if info.path.endswith(SUFFIX)}
    except OSError as error:
        found = error.strerror or str(error)
        problem = Problem(path=error.filename or root, expected="a directory that can be read", found=found)
        raise SourceError([problem]) from error
    if not listing:
        raise SourceError([Problem(path=root, expected="at least one .npy file", found="none")])
    layout, problems = arrange(listing, config)
    headers, header_problems = _read_headers(root, layout.entries, listing)
    arrays, shape_problems = _check_arrays(layout.entries, listing, headers, config)
    problems += header_problems + shape_problems
    problems += _check_equal(arrays) + _check_parts(layout.entries) + _check_rows(arrays)
    if not problems and not any(array.rows for array in arrays):
        problems.append(Problem(path="", expected="at least 1 row", found=f"{len(arrays)} files without rows"))
    if problems:
        raise SourceError(_under(root, problem) for problem in problems)
    return _table(root, layout, arrays)


def _under(root: str, problem: Problem) -> Problem:
    return dataclasses.replace(problem, path=files.join(root, problem.path) if problem.path else root)


def _read_headers(
    root: str, entries: Iterable[Entry], listing: Mapping[str, FileInfo]
) -> tuple[dict[str, Header], list[Problem]]:
    """The headers by path, each file opened once, and what is wrong with the files."""
    features = {entry.path: entry.feature for entry in entries}
    paths = sorted(features)

    def read(path: str) -> Header | Problem:
        try:
            with files.open_input(files.join(root, path)) as file:
                return read_header(file, size=listing[path].size)
        except NpyError as error:
            return Problem(path=path, feature=features[path], expected=error.expected, found=error.found)
        except OSError as error:
            found = error.strerror or str(error)
            return Problem(path=path, feature=features[path], expected="a file that can be read", found=found)

    with concurrent.futures.ThreadPoolExecutor(OPEN_AT_ONCE) as pool:
        results = dict(zip(paths, pool.map(read, paths), strict=True))
    headers = {path: result for path, result in results.items() if isinstance(result, Header)}
    return headers, [result for result in results.values() if isinstance(result, Problem)]


def _check_arrays(
    entries: Iterable[Entry], listing: Mapping[str, FileInfo], headers: Mapping[str, Header], config: DatasetConfig
) -> tuple[list[_Array], list[Problem]]:
    """The arrays that can be cut into rows, and what is wrong with the others."""
    arrays: list[_Array] = []
    problems: list[Problem] = []
    for entry in entries:
        if entry.path not in headers:
            continue
        axes = config.row_axes_of(entry.feature)
        array = _Array(entry=entry, info=listing[entry.path], header=headers[entry.path], row_axes=axes)
        found = f"shape {array.header.shape}"
        if len(array.header.shape) < axes:
            expected = f"at least {axes} {'axis' if axes == 1 else 'axes'} to count rows"
            problems.append(array.problem(expected, found))
        elif 0 in array.row_shape:
            problems.append(array.problem("a row of at least 1 element", found))
        else:
            arrays.append(array)
    return arrays, problems


def _check_equal(arrays: Iterable[_Array]) -> list[Problem]:
    """Every file of a feature has the dtype and the row shape of the first."""
    first: dict[str, _Array] = {}
    problems = []
    for array in arrays:
        other = first.setdefault(array.entry.feature, array)
        if (array.dtype, array.row_shape) != (other.dtype, other.row_shape):
            expected = f"{other.dtype} rows of shape {other.row_shape}, as in {other.entry.path}"
            problems.append(array.problem(expected, f"{array.dtype} rows of shape {array.row_shape}"))
    return problems


def _check_parts(entries: Iterable[Entry]) -> list[Problem]:
    """Every part has a file of every feature."""
    parts = _by_part(entries)
    names = sorted({entry.feature for own in parts.values() for entry in own})
    return [
        Problem(
            path="",
            expected=f"a file of feature {name} in part {part!r}",
            found=f"{', '.join(entry.path for entry in own)} only",
        )
        for part, own in parts.items()
        for name in names
        if name not in {entry.feature for entry in own}
    ]


def _by_part(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    parts = collections.defaultdict(list)
    for entry in entries:
        parts[entry.part].append(entry)
    return dict(sorted(parts.items()))


def _check_rows(arrays: Iterable[_Array]) -> list[Problem]:
    """The files of a part have as many rows as its first, and their row axes are alike where each has several."""
    first: dict[str, _Array] = {}
    problems = []
    for array in arrays:
        other = first.setdefault(array.entry.part, array)
        if array.rows != other.rows:
            expected = f"{other.rows} rows, as in {other.entry.path} (feature {other.entry.feature})"
            problems.append(array.problem(expected, f"{array.rows} rows"))
        elif min(len(array.row_axes_shape), len(other.row_axes_shape)) > 1 and (
            array.row_axes_shape != other.row_axes_shape
        ):
            expected = f"row axes {other.row_axes_shape}, as in {other.entry.path} (feature {other.entry.feature})"
            problems.append(array.problem(expected, f"{array.row_axes_shape}"))
    return problems


def _table(root: str, layout: Layout, arrays: Iterable[_Array]) -> SourceTable:
    """The table of arrays that passed all checks."""
    features: dict[str, Feature] = {}
    parts: dict[str, dict[str, _Array]] = collections.defaultdict(dict)
    for array in arrays:
        name = array.entry.feature
        features[name] = Feature(name=name, dtype=array.dtype, shape=array.row_shape, row_axes=array.row_axes)
        parts[array.entry.part][name] = array
    return SourceTable(
        root=files.absolute(root),
        features=tuple(feature for _, feature in sorted(features.items())),
        parts=tuple(_part(name, own, layout) for name, own in sorted(parts.items())),
    )


def _part(name: str, arrays: Mapping[str, _Array], layout: Layout) -> Part:
    any_array = next(iter(arrays.values()))
    return Part(
        name=name,
        rows=any_array.rows,
        sources={feature: arrays[feature].source for feature in sorted(arrays)},
        split=any_array.entry.directory if layout.by_directory else None,
    )
