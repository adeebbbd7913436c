"""Finds the arrays in files whose headers were read, and checks that they fit together; nothing is raised."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.config.schema import LABEL_NAMES, SPLIT_DIRECTORIES, DatasetConfig, setting_of
from pipelines.config.window import Cut
from pipelines.errors import Problem, some_of
from pipelines.sources.formats import format_of, is_table, stem, suffix_of
from pipelines.sources.formats.dtypes import Leaf, leaves, record_text
from pipelines.sources.formats.protocol import Member
from pipelines.sources.headers import FileHeaders
from pipelines.sources.parts import SourceArray
from pipelines.sources.path_layout import SourceFile
from pipelines.storage.directories import FileInfo

SHOWN_NAMES = 8

Kind = tuple[np.dtype[Any], str, tuple[int | None, ...]]
"""What all arrays of a feature have in common: dtype (of strings without their width), unit, and shape of a row."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LocatedArray:
    """An array in its place.

    Attributes:
        window: What of it each row holds, where rows are cut from it; or None.
        ragged: Whether the first axis of a row has a length of its own.
        count: How many of the array's rows, from the source's start, are those of the part; None for all.
    """

    entry: SourceFile
    feature: str
    source: SourceArray
    row_axes: int
    ragged: bool
    window: Cut | None = None
    count: int | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values, in the file's byte order."""
        return np.dtype(self.source.dtype)

    @property
    def rows(self) -> int:
        """The number of rows; 1 where no axis counts them."""
        return math.prod(self.row_axes_shape)

    @property
    def row_axes_shape(self) -> tuple[int, ...]:
        """How many rows there are along each axis that counts them."""
        if self.count is not None:
            return (self.count,)
        lengths = self.source.shape[: self.row_axes]
        return lengths if self.window is None else self.window.grid(lengths)

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """The shape of one row; the first axis is None where it varies."""
        shape = self.source.shape[self.row_axes :]
        if self.ragged:
            return (None, *shape[1:])
        return shape if self.window is None else (*self.window.shape, *shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return math.prod((*self.row_axes_shape, *self.source.shape[self.row_axes :])) * self.dtype.itemsize

    @property
    def kind(self) -> Kind:
        """What all arrays of the feature have in common."""
        return (*value_type(self.dtype), self.row_shape)

    def problem(self, expected: str, found: str) -> Problem:
        """Something that is wrong with this array."""
        return Problem(path=self.entry.path, feature=self.feature, expected=expected, found=found)


@functools.lru_cache(maxsize=1024)
def value_type(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], str]:
    """The dtype in which values of a dtype of a file are read, without the width of strings, and their unit.

    Returns:
        The dtype in this machine's byte order, and `datetime64[ns]` or the like for times, which are read as int64,
        or "".
    """
    if dtype.kind in "mM":
        return np.dtype(np.int64), dtype.name
    if dtype.kind in "SU":
        return np.dtype(dtype.kind), ""
    return dtype.newbyteorder("="), ""


def show_kind(kind: Kind) -> str:
    """What all arrays of a feature have in common, for messages."""
    dtype, unit, shape = kind
    name = {"S": "bytes", "U": "text"}.get(dtype.kind, unit or dtype.name)
    return f"{name} rows of shape {shape}"


def locate_arrays(
    entries: Iterable[SourceFile],
    headers: Mapping[str, FileHeaders],
    listing: Mapping[str, FileInfo],
    config: DatasetConfig,
) -> tuple[list[LocatedArray], list[Problem]]:
    """Finds the arrays that containers hold, and what is wrong with the containers."""
    located = (_locate(entry, headers[entry.path], listing[entry.path], config) for entry in entries)
    found = list(itertools.chain.from_iterable(located))
    return [f for f in found if isinstance(f, LocatedArray)], [f for f in found if isinstance(f, Problem)]


Choice = tuple[str, Member, Leaf | None]
"""A feature, the array of the container that holds it, and the field; None where the array cannot be read."""


def _locate(
    entry: SourceFile, members: FileHeaders, info: FileInfo, config: DatasetConfig
) -> Iterator[LocatedArray | Problem]:
    choices = [choice for member in members for choice in _of_member(entry, member)]
    if entry.claimed:
        own = [choice for choice in choices if choice[0] == entry.feature] or choices
        if len(own) > 1:
            names = ", ".join(sorted(feature for feature, _, _ in own))
            yield entry.problem(f"one array, or one of the name {entry.feature!r}", f"arrays {names}")
            return
        choices = [(entry.feature, *own[0][1:])]
    elif any(not feature and not member.error for feature, member, _ in choices):
        expected = "a file or directory name that names the feature, as in images-000.npy or images/000.npy"
        yield Problem(path=entry.path, expected=expected, found="only a number")
        return
    for feature, member, leaf in choices:
        yield _locate_array(entry, feature, member, leaf, info, config)


def _of_member(entry: SourceFile, member: Member) -> list[Choice]:
    """The features in an array: its fields, or itself under its own name or the file's."""
    name = member.name or entry.feature
    if member.header is None:
        return [(name, member, None)]
    return [(leaf.name or name, member, leaf) for leaf in leaves(member.header.dtype)]


def _locate_array(
    entry: SourceFile, feature: str, member: Member, leaf: Leaf | None, info: FileInfo, config: DatasetConfig
) -> LocatedArray | Problem:
    """An array that can be cut into rows, or what is wrong with it."""
    header, fault = member.header, member.error
    if fault is not None or header is None or leaf is None:
        assert fault is not None, "a member has a header or an error"
        return Problem(path=entry.path, feature=feature or None, expected=fault.expected, found=fault.found)
    said, axes = config.features.get(feature), config.row_axes_of(feature)
    ragged = said is not None and said.ragged
    source = SourceArray(
        path=info.path,
        dtype=_text(leaf.dtype),
        shape=header.shape + leaf.shape if leaf.shape else header.shape,
        fortran=header.fortran,
        locator=header.locator,
        size=info.size,
        modified=info.modified,
        member=sys.intern(member.name),
        compressed=header.compressed,
        record=record_text(header.dtype),
        field=leaf.name,
        chunk=header.chunk,
        checksum=header.checksum,
    )
    window = None if said is None else said.cut
    array = LocatedArray(entry=entry, feature=feature, source=source, row_axes=axes, ragged=ragged, window=window)
    found = f"shape {source.shape}"
    if len(header.shape) < axes:
        hint = "1 axis to count rows (`row_axes: 0` makes each file a row)"
        return array.problem(f"at least {hint if axes == 1 else f'{axes} axes to count rows'}", found)
    if ragged and not source.shape:
        return array.problem("at least 1 axis, whose length varies", found)
    if window is not None and (expected := _unfit(window, array)):
        return array.problem(expected, f"{array.dtype.name}, {found}")
    if 0 in array.row_shape:
        return array.problem("a row of at least 1 element", found)
    return array


def _unfit(window: Cut, array: LocatedArray) -> str:
    """What an array is expected to be for rows to be cut from it, if it is not; or ""."""
    if array.dtype.kind in "SU":
        return "values, of which patches and windows are cut"
    if len(window.sizes) != array.row_axes:
        return f"as many axes that count rows (row_axes) as patch.size has numbers, {len(window.sizes)}"
    margins = tuple(size // 2 for size in window.sizes)
    lengths = zip(array.source.shape[: array.row_axes], margins, strict=True)
    if window.pad == "reflect" and any(0 < length <= margin for length, margin in lengths):
        return f"more than {margins} rows along the axes that count them, to be mirrored (or pad: edge)"
    return ""


@functools.lru_cache(maxsize=1024)
def _text(dtype: np.dtype[Any]) -> str:
    """NumPy's text of a dtype, one object for all sources."""
    return dtype.str


def no_rows(arrays: Sequence[LocatedArray], skipped: Sequence[Problem]) -> list[Problem]:
    """What is wrong where no array has a row."""
    for array in arrays:
        if array.window is not None and all(array.source.shape):
            least = f"at least {max(array.window.sizes)} steps, as {array.window.KEY}.size says"
            return [array.problem(least, f"shape {array.source.shape}"), *skipped]
    found = f"{len(arrays)} file{'s'[: len(arrays) != 1]} without rows"
    found += f", and {len(skipped)} problem{'s'[: len(skipped) != 1]} in files that were skipped" if skipped else ""
    return [Problem(path="", expected="at least 1 row", found=found), *skipped]


def check_equal(arrays: Sequence[LocatedArray], *, majority: bool) -> list[Problem]:
    """Every array of a feature has the dtype and row shape of the first; or of most, where `majority` is right."""
    counts: dict[str, collections.Counter[Kind]] = collections.defaultdict(collections.Counter)
    first: dict[tuple[str, Kind], LocatedArray] = {}
    kinds = [array.kind for array in arrays]
    for array, kind in zip(arrays, kinds, strict=True):
        counts[array.feature][kind] += 1
        first.setdefault((array.feature, kind), array)
    # Counters keep the order in which kinds came, and the most common of equals is the first.
    right = {name: count.most_common(1)[0][0] if majority else next(iter(count)) for name, count in counts.items()}
    problems = []
    for array, kind in zip(arrays, kinds, strict=True):
        expected = right[array.feature]
        if kind != expected:
            model = first[array.feature, expected]
            problems.append(array.problem(f"{show_kind(expected)}, as in {model.entry.path}", show_kind(kind)))
    return problems


def check_parts(arrays: Iterable[LocatedArray], broken: Iterable[SourceFile]) -> list[Problem]:
    """Every part has an array of every feature; what a broken file would have held counts as there."""
    arrays, broken = list(arrays), list(broken)
    names = {array.feature for array in arrays} | {entry.feature for entry in broken if entry.feature}
    fields = {array.feature for array in arrays if array.source.field}
    parts: dict[str, set[str]] = collections.defaultdict(set)
    paths: dict[str, list[str]] = collections.defaultdict(list)
    for array in arrays:
        parts[array.entry.part].add(array.feature)
        paths[array.entry.part].append(array.entry.path)
    for entry in broken:
        parts[entry.part].add(entry.feature)
        paths[entry.part].append(entry.path)
        if not entry.claimed:
            parts[entry.part] |= names if format_of(entry.path).named else fields
    if fields:  # a broken file that would have been a table is no feature of its own
        names = {array.feature for array in arrays}
    return [
        Problem(
            path="",
            expected=f"a file of feature{'s'[: len(missing) > 1]} {some_of(missing, SHOWN_NAMES)} in part {part!r}",
            found=f"{some_of(sorted(set(paths[part])), SHOWN_NAMES)} only",
        )
        for part, own in sorted(parts.items())
        if (missing := sorted(names - own))
    ]


def check_rows(arrays: Iterable[LocatedArray]) -> list[Problem]:
    """The arrays of a part have as many rows as its first, and their row axes are alike where each has several.

    It is a table that has too few, and not the arrays beside it.
    """
    first: dict[str, LocatedArray] = {}
    problems = []
    for array in sorted(arrays, key=lambda array: is_table(array.entry.path)):
        other = first.setdefault(array.entry.part, array)
        if array.rows != other.rows:
            expected = f"{other.rows} rows, as in {other.entry.path} (feature {other.feature})"
            problems.append(array.problem(expected, f"{array.rows} rows"))
        elif min(len(array.row_axes_shape), len(other.row_axes_shape)) > 1 and (
            array.row_axes_shape != other.row_axes_shape
        ):
            expected = f"row axes {other.row_axes_shape}, as in {other.entry.path} (feature {other.feature})"
            problems.append(array.problem(expected, f"{array.row_axes_shape}"))
    return problems


def check_classes(arrays: Iterable[LocatedArray], *, by_directory: bool) -> list[Problem]:
    """Each part lies in one directory that names the class of its rows, below that of a split."""
    first: dict[str, LocatedArray] = {}
    problems = []
    for array in arrays:
        own = array.entry.holder(by_directory=by_directory)
        other = first.setdefault(array.entry.part, array)
        name = other.entry.holder(by_directory=by_directory)
        if own is None:
            problems.append(array.problem("a directory that names the class of its rows", "none"))
        elif own != name:
            problems.append(array.problem(f"directory {name!r} to name the class, as in {other.entry.path}", repr(own)))
    return problems


def check_class_tree(arrays: Sequence[LocatedArray], *, paired: bool) -> list[Problem]:
    """A directory for each class looks like a directory for each feature, whose parts do not pair, or only by chance.

    Returns:
        One problem, which says what to write, if all arrays lie in at least two directories, have one dtype and number
        of axes and no pattern claims them, and either the parts do not pair, or only directories name the features and
        all arrays have the same shape of a row.
    """
    directories = {directory_of(array.entry.path) for array in arrays} - {None}
    if len(directories) < 2 or len({array.feature for array in arrays}) < 2:
        return []
    if any(directory_of(array.entry.path) is None or array.entry.claimed or array.source.member for array in arrays):
        return []
    if len({(array.kind[:2], len(array.source.shape), array.source.field) for array in arrays}) > 1:
        return []
    if any((directory or "").lower() in LABEL_NAMES for directory in directories):  # inputs and targets of one shape
        return []
    named = all(array.feature == directory_of(array.entry.path) for array in arrays)
    # Whether nothing but their directories tells the arrays' names apart.
    numbered = all(array.feature not in stem(array.entry.path).rpartition("/")[2] for array in arrays)
    if paired and not (named and len({array.row_shape for array in arrays}) == 1 and numbered):
        return []
    depths = {array.entry.path.count("/") for array in arrays}
    pattern = ("*/" * depths.pop() if len(depths) == 1 else "**/") + "*"
    example = arrays[0]
    suffix = suffix_of(example.entry.path)
    rows = ", row_axes: 0" if len({array.source.shape for array in arrays}) == 1 else ""
    image = setting_of("image", f'={{files: "{pattern}{suffix}"{rows}}}')
    feature = setting_of(example.feature, f'.files="{example.feature}/*{suffix}"')
    expected = (
        f"an option that says whether a directory names a class ({image} {setting_of('label', '.source=directory')}) "
        f"or a feature ({feature} and so on)"
    )
    some = some_of(sorted(directory for directory in directories if directory), 3)
    found = f"{len(directories)} directories ({some}) of arrays of one dtype, as in {example.entry.path}"
    return [Problem(path="", expected=expected, found=found)]


def directory_of(path: str) -> str | None:
    """The last directory of a path that is not one of the usual names of splits."""
    names = [name for name in path.split("/")[:-1] if name.lower() not in SPLIT_DIRECTORIES]
    return names[-1] if names else None
