"""Which feature and which part of the rows a file holds, read from its path or from the user's patterns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from pipelines.config import RESERVED_NAMES, SPLIT_DIRECTORIES, DatasetConfig
from pipelines.errors import Problem

SUFFIX = ".npy"

_NUMBER = r"\d+(?:-of-\d+)?"
_NUMBERED = re.compile(rf"(?P<name>.+?)[-_.](?P<number>{_NUMBER})", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One file in its place.

    Attributes:
        path: The path from the root.
        feature: The feature that it holds.
        part: The name of the part: files of one part hold the same rows.
        directory: The first directory of the part's name, or None if there is none.
    """

    path: str
    feature: str
    part: str
    directory: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The files in their places.

    Attributes:
        entries: The files, sorted by path.
        by_directory: Whether each part's first directory names its split.
    """

    entries: tuple[Entry, ...]
    by_directory: bool


def arrange(paths: Iterable[str], config: DatasetConfig) -> tuple[Layout, list[Problem]]:
    """Puts files in their places.

    Args:
        paths: The paths from the root, with forward slashes; those that do not end in `.npy` are ignored.
        config: The user's patterns and splits.

    Returns:
        The layout, and what is wrong with the files' names. The problems' paths are from the root.
    """
    arrays = sorted(path for path in paths if path.endswith(SUFFIX))
    entries, problems = _claimed(arrays, config)
    claimed = {entry.path for entry in entries}
    for path in arrays:
        if path in claimed:
            continue
        entry = place(path)
        if entry is None:
            problems.append(
                Problem(
                    path=path,
                    expected="a file or directory name that names the feature, as in images-000.npy or images/000.npy",
                    found="only a number",
                )
            )
        else:
            entries.append(entry)
    entries.sort(key=lambda entry: (entry.path, entry.feature))
    by_directory, split_problems = _splits(entries, config)
    layout = Layout(entries=tuple(entries), by_directory=by_directory)
    return layout, problems + _missing(entries, config) + _doubles(entries) + split_problems


def place(path: str) -> Entry | None:
    """Reads feature and part from a path.

    The feature's name is the file's name without number and suffix. A file whose name is only a number takes the name
    of the nearest directory that is not one of the usual names of splits. The part is what is left of the path when
    the feature's name is taken away, in the file's name and as a directory.

    Args:
        path: The path of a `.npy` file from the root.

    Returns:
        The file's place, or None if nothing names its feature.
    """
    *directories, name = path.removesuffix(SUFFIX).split("/")
    if re.fullmatch(_NUMBER, name):
        number = name
        feature = next(
            (directory for directory in reversed(directories) if directory.lower() not in SPLIT_DIRECTORIES), None
        )
        if feature is None:
            return None
    else:
        match = _NUMBERED.fullmatch(name)
        feature, number = (match["name"], match["number"]) if match else (name, "")
    if feature in directories:
        del directories[len(directories) - 1 - directories[::-1].index(feature)]
    part = "/".join([*directories, number] if number else directories)
    return Entry(path=path, feature=feature, part=part, directory=directories[0] if directories else None)


def match_pattern(pattern: str, path: str) -> str | None:
    """Matches a path with a pattern in which `*` and `?` stay within a name, and `**` crosses directories.

    Args:
        pattern: The pattern, from the root.
        path: The path, from the root.

    Returns:
        What the wildcards matched, joined by `/`, or None if the path does not match.
    """
    match = _compile(pattern.removeprefix("./")).fullmatch(path)
    return None if match is None else "/".join(group for group in match.groups() if group)


def _compile(pattern: str) -> re.Pattern[str]:
    """One group for each run of wildcards; `a/**/b` also matches `a/b`."""
    expression = ""
    for token in re.findall(r"\*\*/|\*\*|[*?]+|[^*?]+", pattern):
        if token == "**/":
            expression += "(?:(.*)/)?"
        elif token == "**":
            expression += "(.*)"
        elif token[0] in "*?":
            expression += "(" + token.replace("?", "[^/]").replace("*", "[^/]*") + ")"
        else:
            expression += re.escape(token)
    return re.compile(expression, re.DOTALL)


def _claimed(paths: Sequence[str], config: DatasetConfig) -> tuple[list[Entry], list[Problem]]:
    """The files that the patterns of the configuration claim; a file may hold two features."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for feature, said in config.features.items():
        parts: dict[str, str] = {}
        for pattern in said.files or ():
            found = {path: part for path in paths if (part := match_pattern(pattern, path)) is not None}
            if not found:
                expected = "at least one .npy file that matches the pattern"
                problems.append(Problem(path=pattern, feature=feature, expected=expected, found="none"))
            parts = found | parts
        for path, part in parts.items():
            first = part.partition("/")[0]
            directory = first if first and path.startswith(f"{first}/") else None
            entries.append(Entry(path=path, feature=feature, part=part, directory=directory))
    return entries, problems


def _missing(entries: Iterable[Entry], config: DatasetConfig) -> list[Problem]:
    """Features that the configuration names and no file does."""
    names = sorted({entry.feature for entry in entries})
    return [
        Problem(
            path="",
            feature=feature,
            expected="files of this feature, which the configuration names",
            found=f"features {', '.join(names)}" if names else "no feature",
        )
        for feature, said in config.features.items()
        if feature not in names and said.files is None
    ]


def _doubles(entries: Iterable[Entry]) -> list[Problem]:
    """Files that hold the same feature of the same part."""
    first: dict[tuple[str, str], str] = {}
    problems = []
    for entry in entries:
        other = first.setdefault((entry.feature, entry.part), entry.path)
        if other != entry.path:
            expected = f"one file of the feature in part {entry.part!r}"
            found = f"{other} as well"
            problems.append(Problem(path=entry.path, feature=entry.feature, expected=expected, found=found))
    return problems


def _guess_splits(entries: Sequence[Entry]) -> tuple[bool, list[Problem]]:
    """Directories name the splits where all have the usual names; where some have, nobody knows what is meant."""
    usual = [entry for entry in entries if (entry.directory or "").lower() in SPLIT_DIRECTORIES]
    if not usual or len(usual) == len(entries):
        return bool(usual), []
    other = next(entry for entry in entries if entry not in usual)
    expected = f"a directory that names a split, as in {usual[0].path}; or `splits` in the configuration"
    return False, [Problem(path=other.path, feature=other.feature, expected=expected, found="another place")]


def _splits(entries: Sequence[Entry], config: DatasetConfig) -> tuple[bool, list[Problem]]:
    """Whether directories name the splits, and the files for which they cannot."""
    if config.splits is None:
        return _guess_splits(entries)
    if config.splits != "directory":
        return False, []
    expected = "a file in a directory that names its split, as in train/images-000.npy"
    problems = []
    for entry in entries:
        if entry.directory is None:
            problems.append(
                Problem(path=entry.path, feature=entry.feature, expected=expected, found="no such directory")
            )
        elif entry.directory in RESERVED_NAMES:
            found = f"{entry.directory!r}, which the output needs for something else"
            problems.append(Problem(path=entry.path, feature=entry.feature, expected=expected, found=found))
    return True, problems
