"""Arrays that hold the rows of many files, which are paired with them by the order of names, or as a table says."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from pipelines.errors import Problem, some_of
from pipelines.sources.checks import LocatedArray
from pipelines.sources.formats import is_table, stem
from pipelines.sources.formats.tabular import TableColumns, read_table
from pipelines.sources.path_layout import NUMBER, SourceFile
from pipelines.storage import files
from pipelines.storage.directories import FileInfo

Ranges = dict[str, tuple[int, int]]
"""For each part the first of its rows in an array, and how many there are."""


def share(
    root: str, entries: Sequence[SourceFile], arrays: Sequence[LocatedArray], listing: Mapping[str, FileInfo]
) -> tuple[list[SourceFile], list[LocatedArray], list[Problem], dict[str, str]]:
    """Deals arrays that hold the rows of many files out to the parts of these files.

    Such an array has a name without a number: `labels.npy` is beside or above `images/000.npy`, and has features that
    none of those files has. It has as many rows as they have together, or is a table with a column of their names.
    Files that cannot be read are among the `entries`, and not among the `arrays`.

    Returns:
        The files in their places and the arrays, of one that was dealt out one for each part; what does not pair; and
        for each feature that was dealt out, how.
    """
    pieces: list[LocatedArray] = []
    problems: list[Problem] = []
    own: dict[str, list[LocatedArray]] = collections.defaultdict(list)
    for array in arrays:
        own[array.entry.part].append(array)
    first: dict[str, SourceFile] = {}
    for entry in entries:
        first.setdefault(entry.part, entry)
    scopes = _scopes(entries, own)
    dealt: set[str] = set()
    why: dict[str, str] = {}
    for part, below in scopes.items():
        names = [first[name] for name in below]
        for array in own[part]:
            table = is_table(array.entry.path)
            if array.window is not None and len(below) > 1:  # which would reach into the rows of another file
                expected = f"an array beside each of {len(below):,} files, as no {array.window.KEY} lies in two"
                problems.append(array.problem(expected, "one for all of them"))
                dealt.add(part)
                continue
            named = match_names(root, listing[array.entry.path], [entry.path for entry in names]) if table else None
            found = _by_order(array, below, own) if named is None else _by_name(array, names, named)
            if isinstance(found, Problem):
                if len(below) > 1:  # one part and another look like parts that do not pair
                    problems.append(found)
                    dealt.add(part)
                continue
            dealt.add(part)
            pieces += [_piece(array, first[name], start, count) for name, (start, count) in found.items()]
            how = "by a column with their names" if named else "in the natural order of their names"
            why[array.feature] = f"{array.source.path} has the rows of {len(found):,} files, {how}"
    left = [array for array in arrays if array.entry.part not in dealt]
    places = [entry for entry in entries if entry.part not in dealt]
    return [*places, *(piece.entry for piece in pieces)], [*left, *pieces], problems, why


def _piece(array: LocatedArray, of: SourceFile, start: int, count: int) -> LocatedArray:
    """The rows of an array that belong to one part, which lies where a file of it does."""
    entry = dataclasses.replace(array.entry, part=of.part, directory=of.directory, folders=of.folders)
    source = dataclasses.replace(array.source, start=start)
    return dataclasses.replace(array, entry=entry, source=source, row_axes=max(1, array.row_axes), count=count)


def _scopes(entries: Iterable[SourceFile], own: Mapping[str, Sequence[LocatedArray]]) -> dict[str, list[str]]:
    """The parts whose arrays hold the rows of others, each with these, in the natural order of their names."""
    features: dict[str, set[str]] = collections.defaultdict(set)
    where: dict[str, set[str]] = collections.defaultdict(set)
    for entry in entries:
        for name in [array.feature for array in own[entry.part]] if entry.part in own else [entry.feature]:
            features[entry.part].add(name)
            where[name].add(entry.part)
    above = {name for part in features for name in _above(part) if name in features}
    # A file in a place of its own (meta/labels.npy, labels.npz) is like one at the root, if no number says otherwise.
    alone = {
        part
        for part, names in features.items()
        if not re.fullmatch(NUMBER, part.rpartition("/")[2]) and all(len(where[name]) == 1 for name in names)
    }
    candidates = {part for part in above | alone if part in own}
    below: dict[str, list[str]] = collections.defaultdict(list)
    for part in features.keys() - candidates:
        for name in _above(part):
            below[name].append(part)
    found = {}
    for part in candidates:
        scope = next((below[name] for name in (part, *_above(part)) if name in below), [])
        if scope and not any(features[part] & features[name] for name in scope):
            found[part] = sorted(scope, key=natural)
    return found


def _above(part: str) -> Iterator[str]:
    """The directories above a part, the nearest first; the last is the root."""
    while part:
        part = part.rpartition("/")[0]
        yield part


def natural(name: str) -> tuple[object, ...]:
    """What names are sorted by so that `2` comes before `10`."""
    pieces = re.split(r"(\d+)", name)
    return tuple(int(piece) if number % 2 else piece for number, piece in enumerate(pieces)), name


def _by_order(array: LocatedArray, below: Sequence[str], own: Mapping[str, Sequence[LocatedArray]]) -> Ranges | Problem:
    """The rows of an array that has as many as the parts have together."""
    counts = [own[part][0].rows if part in own else 1 for part in below]
    there = array.rows if array.row_axes else (array.source.shape or (0,))[0]
    if there != sum(counts):
        example = next((own[part][0] for part in below if part in own), array)
        those = f"{len(below):,} files such as {example.entry.path}"
        if set(counts) == {1}:
            return array.problem(f"{len(below):,} rows, one for each of {those}", f"{there:,} rows")
        said = f"`features: {{{example.feature}: {{row_axes: 0}}}}`"
        expected = f"{sum(counts):,} rows, as {those} have together; or, with {said}, one for each"
        return array.problem(expected, f"{there:,} rows")
    starts = itertools.accumulate(counts, initial=0)
    return {part: (start, count) for part, start, count in zip(below, starts, counts, strict=False)}


def _by_name(array: LocatedArray, files_below: Sequence[SourceFile], named: Named) -> Ranges | Problem:
    """The row of a table that names each file."""
    rows = named.rows
    without = [entry.path for entry in files_below if entry.path not in rows]
    if without:
        return array.problem(f"a row whose {named.column!r} names each file", f"none for {some_of(without, 3)}")
    if named.others:
        return array.problem(f"a file for each {named.column!r}", f"none for {some_of(named.others, 3)}")
    return {entry.part: (rows[entry.path], 1) for entry in files_below}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """A column of a table that names files.

    Attributes:
        rows: For each file that it names, the row.
        others: What it names that is no file.
    """

    column: str
    rows: Mapping[str, int]
    others: Sequence[str]


def match_names(root: str, table: FileInfo, paths: Sequence[str]) -> Named | None:
    """The column of a table that names most of some files, each once, and at most as many others; or None.

    They are named with or without directories, and whatever their suffix.
    """
    ways = _ways(table.path.rpartition("/")[0], paths)
    best: Named | None = None
    columns = read_table(files.locate(root, table.path), table.size, table.modified)
    for name, column in columns.items():
        if not isinstance(column, np.ndarray) or column.dtype.kind not in "Uiu":
            continue
        values = [str(value) for value in column.tolist()]
        for way in ways:
            rows = {way[_key(value)]: row for row, value in enumerate(values) if _key(value) in way}
            others = [value for value in values if _key(value) not in way]
            doubled = len(rows) + len(others) < len(values) or len(way) < len(paths)
            if not doubled and len(rows) >= max(1, len(others)) and (best is None or len(rows) > len(best.rows)):
                best = Named(column=name, rows=rows, others=others)
    return best


def names_files(columns: TableColumns, folder: str, paths: Sequence[str]) -> bool:
    """Whether a column of a table, which lies in a folder, names files: each once, and at most as many others."""
    known = set[str]().union(*_ways(folder, paths))
    for column in columns.values():
        if isinstance(column, np.ndarray) and column.dtype.kind in "Uiu":
            keys = [_key(str(value)) for value in column.tolist()]
            names = [key for key in keys if key in known]
            if len(set(names)) == len(names) >= max(1, len(keys) - len(names)):
                return True
    return False


def _ways(folder: str, paths: Sequence[str]) -> list[dict[str, str]]:
    """Files by what a table in a folder may call them."""
    return [
        {_key(path): path for path in paths},
        {_key(path.removeprefix(f"{folder}/")): path for path in paths},
        {_key(path.rpartition("/")[2]): path for path in paths},
    ]


def _key(name: str) -> str:
    """A file's name without its suffix, and a number without zeros before it."""
    name = name.removeprefix("./")
    name = stem(name) if "." in name.rpartition("/")[2] else name
    return str(int(name)) if name.isascii() and name.isdigit() else name
