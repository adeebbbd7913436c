"""Layouts that names alone do not tell: files of one row each, and numbers that end a name without a separator.

Arrays that pair as they stand are left as they are, unless there are many files that each look like a picture.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pipelines.config.schema import IMAGE_CHANNELS, SPLIT_DIRECTORIES, DatasetConfig, FeatureConfig, setting_of
from pipelines.errors import Problem
from pipelines.sources.checks import LocatedArray
from pipelines.sources.formats import format_of, is_table, stem, suffix_of
from pipelines.sources.formats.protocol import FormatError
from pipelines.sources.formats.tabular import read_table
from pipelines.sources.headers import FileHeaders
from pipelines.sources.path_layout import SourceFile, match_pattern
from pipelines.sources.row_alignment import match_names
from pipelines.storage import files
from pipelines.storage.directories import FileInfo

MANY = 10
"""So many files of one shape that looks like a picture's are pictures, where nothing else says what they are."""

_NUMBER_AT_END = re.compile(r"(?P<name>.*[^\d_.-])(?P<number>\d+)", re.DOTALL)
_NUMBERED = re.compile(r".*\d", re.DOTALL)
_QUESTIONED = {"row_axes", "files", "ragged", "source", "patch", "window"}
"""Where the user says one of these of a feature, it is what was said."""

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposal:
    """Another way to read the sources.

    Attributes:
        why: For each feature, what it was recognised by.
        pairs: Whether it is right only if an array or a table has the rows of the files.
        meant: Whether it is what the user means, also where something is wrong with it.
        last: Whether nothing else is tried after it.
    """

    config: DatasetConfig
    why: Mapping[str, str]
    pairs: bool = False
    meant: bool = False
    last: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Sources as a configuration says that they are read.

    Attributes:
        headers: What is in the files.
        entries: The files in their places, before any array was dealt out to several parts; so the `arrays`.
        dealt: The arrays after that.
        problems: What does not pair.
        skipped: What is wrong with files that were left out.
        by_directory: Whether directories name the splits.
        why: For each feature whose layout was recognised, by what.
    """

    root: str
    listing: Mapping[str, FileInfo]
    headers: Mapping[str, FileHeaders]
    config: DatasetConfig
    entries: Sequence[SourceFile]
    arrays: Sequence[LocatedArray]
    dealt: Sequence[LocatedArray]
    problems: Sequence[Problem]
    skipped: Sequence[Problem]
    by_directory: bool
    why: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Series:
    """Files that may be one feature.

    Attributes:
        pattern: The pattern that claims them, or None where their names say it.
        kinds: The shapes and dtypes of those that can be read.
    """

    feature: str
    pattern: str | None
    entries: Sequence[SourceFile]
    kinds: frozenset[tuple[Shape, np.dtype[Any]]]

    @property
    def uniform(self) -> bool:
        """Whether all are of one shape and dtype."""
        return len(self.kinds) == 1

    @property
    def shape(self) -> Shape:
        """The shape of all."""
        return next(iter(self.kinds))[0]

    def others(self, arrays: Iterable[LocatedArray]) -> list[Shape]:
        """The shapes of the features that are not these files."""
        own = {entry.feature for entry in self.entries}
        return list({array.feature: array.source.shape for array in arrays if array.feature not in own}.values())

    def looks(self, others: Iterable[Shape]) -> Literal["picture", "perhaps", "rows"]:
        """Whether each file looks like a picture, given the shapes of other features with as many rows (masks)."""
        shape, dtype = next(iter(self.kinds))
        if len(shape) not in (2, 3) or min(shape[:2]) < 4 or any(other[:2] != shape[:2] for other in others):
            return "rows"
        if len(shape) == 2:
            return "picture" if shape[0] == shape[1] else "rows"
        if shape[2] not in IMAGE_CHANNELS:
            return "rows"
        return "picture" if dtype == np.uint8 or shape[0] == shape[1] else "perhaps"

    def said(self, *, rows: bool) -> dict[str, Any]:
        """What a configuration says of it: each file holds `rows` along its first axis, or is one row."""
        said: dict[str, Any] = {} if self.pattern is None else {"files": (self.pattern,)}
        return said if rows else said | {"row_axes": 0}

    def question(self) -> Problem:
        """What the user is asked where nobody can know what the files are."""
        pattern = "" if self.pattern is None else f'files: "{self.pattern}", '
        alone, parts = (setting_of(self.feature, f"={{{pattern}row_axes: {axes}}}") for axes in (0, 1))
        ways = [f"one row ({alone})", f"many rows ({parts})"]
        ways += ["a feature of its own (--set row_axes=1)"] if self.pattern is not None else []
        expected = f"an option that says whether a file holds {', '.join(ways[:-1])} or {ways[-1]}"
        found = f"{len(self.entries):,} files of shape {self.shape}, such as {self.entries[0].path}"
        return Problem(path="", feature=self.feature, expected=expected, found=found)


def propose(found: Found) -> Iterator[Proposal | Problem]:
    """Other ways to read sources, the likeliest first, where the user has not said how.

    Yields:
        A proposal; or a question, where the arrays pair but it is as likely that something else is meant.
    """
    config = found.config
    if "row_axes" in config.model_fields_set:
        return
    numbered, unseparated, folders = groups = _all_series(found)
    for table in filter(is_table, found.listing):
        yield from _of_table(found, table, groups)
    if not found.problems:
        for group in groups:
            for series in group:
                if series.uniform and len(series.entries) >= MANY:
                    yield from _of_pictures(found, series, group)
        return
    if archived := _archived(found):
        yield _rows(archived, config)
    same = [series for series in numbered if series.uniform]
    if same:
        yield _rows(same, config, pairs=all(series.shape for series in same), meant=_are_pictures(same, found))
    if unseparated:
        why = {series.feature: f"numbers that end a name count parts: {series.pattern}" for series in unseparated}
        said = {series.feature: series.said(rows=True) for series in unseparated}
        yield Proposal(config=_with(config, said), why=why)
    for group in (unseparated, folders):
        if group and all(series.uniform for series in group):
            meant = _are_pictures(group, found)
            yield _rows([*same, *group], config, pairs=all(series.shape for series in group), meant=meant)


def _with(config: DatasetConfig, said: Mapping[str, Mapping[str, Any]]) -> DatasetConfig:
    features = dict(config.features)
    for name, values in said.items():
        features[name] = features.get(name, FeatureConfig()).model_copy(update=dict(values))
    return config.model_copy(update={"features": features})


def _are_pictures(group: Iterable[_Series], found: Found) -> bool:
    """Whether there are many pictures, and no other feature with as many rows as each of them has lines."""
    return any(
        len(series.entries) >= MANY
        and series.looks(other for other in series.others(found.arrays) if other[:1] == series.shape[:1]) == "picture"
        for series in group
    )


def _rows(many: Iterable[_Series], config: DatasetConfig, *, pairs: bool = False, meant: bool = False) -> Proposal:
    """Each file of some series is one row."""
    said, why = {}, {}
    for series in many:
        said[series.feature] = series.said(rows=False)
        why[series.feature] = f"one row a file, as {len(series.entries):,} files have the shape {series.shape}"
    return Proposal(config=_with(config, said), why=why, pairs=pairs, meant=meant)


def _all_series(found: Found) -> tuple[list[_Series], list[_Series], list[_Series]]:
    """Files whose names make them parts of a feature, whose names end in a number, and of one directory."""
    numbered, unseparated, folders = (
        collections.defaultdict[tuple[str, str], list[SourceFile]](list) for _ in range(3)
    )
    for entry in found.entries:
        if entry.claimed or not entry.feature or _QUESTIONED & _said(found, entry.feature):
            continue
        *directories, name = stem(entry.path).split("/")
        if name != entry.feature:
            numbered["", entry.feature].append(entry)
            continue
        place = "/".join("*" if other.lower() in SPLIT_DIRECTORIES else other for other in directories)
        if match := _NUMBER_AT_END.fullmatch(name):
            unseparated[f"{place}/" if place else "", match["name"]].append(entry)
        if directories and directories[-1].lower() not in SPLIT_DIRECTORIES:
            folders[f"{place}/", directories[-1]].append(entry)
    return (
        [_series(found, name, None, own) for (_, name), own in numbered.items() if len(own) > 1],
        _claiming(found, {(f"{place}{name}", name): own for (place, name), own in unseparated.items()}),
        _claiming(found, {(place, name): own for (place, name), own in folders.items()}),
    )


def _archived(found: Found) -> list[_Series]:
    """The arrays of numbered archives, if some are single values, so that each archive is a row."""
    entries: dict[str, list[SourceFile]] = collections.defaultdict(list)
    kinds: dict[str, set[tuple[Shape, np.dtype[Any]]]] = collections.defaultdict(set)
    for entry in found.entries:
        numbered = format_of(entry.path).named and _NUMBERED.fullmatch(stem(entry.path))
        for member in found.headers[entry.path] if numbered and not entry.claimed else ():
            if member.header is not None and not _QUESTIONED & _said(found, member.name):
                entries[member.name].append(entry)
                kinds[member.name].add((member.header.shape, member.header.dtype))
    many = [
        _Series(feature=name, pattern=None, entries=own, kinds=frozenset(kinds[name])) for name, own in entries.items()
    ]
    scalars = any(series.uniform and series.shape == () and len(series.entries) > 1 for series in many)
    return many if scalars and all(series.uniform for series in many) else []


def _said(found: Found, feature: str) -> set[str]:
    return found.config.features.get(feature, FeatureConfig()).model_fields_set


def _series(found: Found, name: str, pattern: str | None, entries: Sequence[SourceFile]) -> _Series:
    headers = [member.header for entry in entries for member in found.headers[entry.path] if member.header is not None]
    kinds = frozenset((header.shape, header.dtype) for header in headers)
    return _Series(feature=name, pattern=pattern, entries=entries, kinds=kinds)


def _claiming(found: Found, groups: Mapping[tuple[str, str], Sequence[SourceFile]]) -> list[_Series]:
    """Series of the files that begin alike, if a pattern claims them and no other file."""
    many = []
    for (begin, name), entries in groups.items():
        ends = {entry.path.split("/")[-1].removeprefix(begin.rpartition("/")[2]) for entry in entries}
        suffixes = {suffix_of(end) for end in ends}
        if len(entries) < 2 or len(suffixes) > 1 or any(set(entry.path) & {*"*?"} for entry in entries):
            continue
        suffix = suffixes.pop()
        patterns = [f"{begin}*{suffix}", *{f"{begin}{'?' * (len(end) - len(suffix))}{suffix}" for end in ends}]
        for pattern in patterns if len(patterns) == 2 else patterns[:1]:  # or numbers of so many digits
            if sum(match_pattern(pattern, entry.path) is not None for entry in found.entries) == len(entries):
                many.append(_series(found, name, pattern, entries))
                break
    return many


def _of_table(found: Found, path: str, groups: Sequence[Sequence[_Series]]) -> Iterator[Proposal | Problem]:
    """What a table says that has a column with the names of files."""
    try:
        matches = [
            (named, series)
            for series in (series for group in groups for series in group)
            if (named := match_names(found.root, found.listing[path], [entry.path for entry in series.entries]))
        ]
    except (FormatError, OSError):
        return  # a table that nobody has named need not be one
    if not matches:
        return
    named, series = max(matches, key=lambda match: len(match[0].rows))
    if not found.problems:
        others = series.others(found.arrays)
        looks = series.looks(others) if series.uniform else "rows"
        if looks != "picture" and others:  # a table of parts
            return
        if looks != "picture" and series.pattern is None:
            yield series.question()
            return
    unclaimed = (other for group in groups for other in group if other.uniform and other.pattern is None)
    rows = _rows([series, *(other for other in unclaimed if len(other.entries) == len(series.entries))], found.config)
    info = found.listing[path]
    columns = set(read_table(files.locate(found.root, path), info.size, info.modified)) - {named.column}
    of_others = {array.feature for array in found.arrays} - {entry.feature for entry in series.entries}
    if clash := columns & (of_others | {series.feature}):
        expected = "columns whose names are those of no other feature"
        yield Problem(path=path, expected=expected, found=", ".join(sorted(clash)))
        return
    why = f"a column of {path}, whose {named.column!r} names the file of each row"
    yield Proposal(
        config=_with(rows.config, {name: {"files": (path,)} for name in columns}),
        why={**rows.why, **dict.fromkeys(columns, why)},
        pairs=True,
        meant=True,
        last=True,
    )


def _of_pictures(found: Found, series: _Series, group: Sequence[_Series]) -> Iterator[Proposal | Problem]:
    """What many files of one shape are, where they pair as parts, or as features."""
    others = series.others(found.arrays)
    looks = series.looks(others)
    if looks == "picture":
        yield _rows([other for other in group if other.uniform and other.shape[:2] == series.shape[:2]], found.config)
    elif looks == "perhaps" or _may_be_rows(series, others):
        yield series.question()


def _may_be_rows(series: _Series, others: Sequence[Shape]) -> bool:
    """Whether files that are a feature each are as likely rows: numbered, and alone or as many as there are rows."""
    if series.pattern is None or _NUMBER_AT_END.fullmatch(series.entries[0].feature) is None or len(series.shape) < 2:
        return False
    return not others or len(series.entries) == series.shape[0]
