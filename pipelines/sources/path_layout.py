"""Which feature and which part of the rows a file holds, read from its path or from the user's patterns."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Iterable, Sequence

from loaders.format.names import RESERVED
from pipelines.config.schema import SPLIT_DIRECTORIES, DatasetConfig
from pipelines.errors import Problem
from pipelines.sources.formats import format_of, is_container, is_table, shown_suffixes, stem
from pipelines.storage import files

NUMBER = r"\d+(?:-of-\d+)?"
_NUMBERED = re.compile(rf"(?P<name>.+?)[-_.](?P<number>{NUMBER})", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file in its place.

    Attributes:
        path: The path from the root, or an absolute one.
        feature: The feature that it holds; empty where only what is in the file can tell.
        part: The name of the part: files of one part hold the same rows.
        directory: The first directory of the part's name, or None if there is none.
        folders: The directories that may name the class of the rows: all but one that names the feature, or those that
            a pattern spells out.
        claimed: Whether the user's pattern says which feature it holds.
    """

    path: str
    feature: str
    part: str
    directory: str | None
    folders: tuple[str, ...]
    claimed: bool = False

    def problem(self, expected: str, found: str) -> Problem:
        """Something that is wrong with this file."""
        return Problem(path=self.path, feature=self.feature or None, expected=expected, found=found)

    def holder(self, *, by_directory: bool) -> str | None:
        """The last directory that may name a class, where the first names no split; or None."""
        own = self.folders[1:] if by_directory and self.folders[:1] == (self.directory,) else self.folders
        return own[-1] if own else None


def arrange(paths: Collection[str], config: DatasetConfig) -> tuple[list[SourceFile], list[Problem]]:
    """Puts those of some files that are containers in their places, and tables that a pattern claims.

    Returns:
        The files in their places, sorted by path, and patterns that match none. A file that no pattern claims is an
        entry without a feature if its arrays have names, which are those of features, or if nothing in its path does.
    """
    arrays = sorted(path for path in paths if is_container(path))
    entries, problems = _claimed([*arrays, *sorted(filter(is_table, paths))], config)
    claimed = {entry.path for entry in entries}
    # Listed for patterns only: what no pattern matches there is no source.
    for path in arrays:
        if path not in claimed and not files.is_absolute(path):
            placed = None if format_of(path).named else place(path)
            entries.append(placed or _unclaimed(path, "", stem(path), path.split("/")[:-1]))
    entries.sort(key=lambda entry: (entry.path, entry.feature))
    return entries, problems


def _unclaimed(path: str, feature: str, part: str, directories: Sequence[str]) -> SourceFile:
    directory = directories[0] if directories else None
    return SourceFile(path=path, feature=feature, part=part, directory=directory, folders=tuple(directories))


def place(path: str) -> SourceFile | None:
    """Reads feature and part from the path of a container from the root; None if nothing names its feature.

    The feature's name is the file's name without number and suffix. A file whose name is only a number takes the name
    of the nearest directory that is not one of the usual names of splits. The part is what is left of the path when
    the feature's name is taken away, in the file's name and as a directory.
    """
    *directories, name = stem(path).split("/")
    if re.fullmatch(NUMBER, name):
        number = name
        named = [directory for directory in directories if directory.lower() not in SPLIT_DIRECTORIES]
        if not named:
            return None
        feature = named[-1]
    else:
        match = _NUMBERED.fullmatch(name)
        feature, number = (match["name"], match["number"]) if match else (name, "")
    if feature in directories:
        del directories[len(directories) - 1 - directories[::-1].index(feature)]
    return _unclaimed(path, feature, "/".join([*directories, number] if number else directories), directories)


def match_pattern(pattern: str, path: str) -> str | None:
    """What the wildcards of a pattern match in a path, joined by `/`, or None if it does not match.

    `*` and `?` stay within a name, and `**` crosses directories.
    """
    match = _compile(pattern.removeprefix("./")).fullmatch(path)
    return None if match is None else "/".join(group for group in match.groups() if group)


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Whether a path matches one of some patterns."""
    return any(match_pattern(pattern, path) is not None for pattern in patterns)


def fixed_directory(pattern: str) -> str:
    """The directory above the first wildcard of an absolute pattern, where its files are looked for."""
    return re.split(r"[*?]", pattern, maxsplit=1)[0].rpartition("/")[0] or "/"


@functools.lru_cache(maxsize=256)
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


def _claimed(paths: Sequence[str], config: DatasetConfig) -> tuple[list[SourceFile], list[Problem]]:
    """The files that the patterns of the configuration claim; a file may hold two features."""
    entries: list[SourceFile] = []
    problems: list[Problem] = []
    for feature, said in config.features.items():
        found: dict[str, SourceFile] = {}
        for pattern in said.files or ():
            own = [entry for path in paths if (entry := _claim(path, feature, pattern)) is not None]
            if not own:
                expected = f"at least one {shown_suffixes()} file that matches the pattern"
                problems.append(Problem(path=pattern, feature=feature, expected=expected, found="none"))
            found = {entry.path: entry for entry in own} | found
        entries += found.values()
    return entries, problems


def _claim(path: str, feature: str, pattern: str) -> SourceFile | None:
    part = match_pattern(pattern, path)
    if part is None:
        return None
    # The part's name begins with a directory's if that is the first thing that a wildcard matched.
    inside = path.removeprefix(fixed_directory(pattern) + "/") if files.is_absolute(pattern) else path
    first = part.partition("/")[0]
    directories = inside.split("/")[:-1]
    spelled = pattern.split("/")[:-1]
    varying = [directory for directory in directories if directory not in spelled] or directories
    return SourceFile(
        path=path,
        feature=feature,
        part=part,
        directory=first if first and inside.startswith(f"{first}/") else None,
        folders=tuple(varying),
        claimed=True,
    )


def check_names(places: Sequence[tuple[str, SourceFile]], config: DatasetConfig) -> list[Problem]:
    """Checks that each feature of a part has one array, and each that the user names at least one, or is made."""
    names = {feature for feature, _ in places}
    problems = []
    for feature, said in config.features.items():
        if said.source is not None and feature in names:
            expected, found = f"no file of this feature, whose source is {said.source!r}", "files with its name"
            problems.append(Problem(path="", feature=feature, expected=expected, found=found))
        elif said.source is None and said.files is None and feature not in names:
            expected = "files of this feature, which the configuration names"
            found = f"features {', '.join(sorted(names))}" if names else "no feature"
            problems.append(Problem(path="", feature=feature, expected=expected, found=found))
    return problems + _doubles(places)


def _doubles(places: Iterable[tuple[str, SourceFile]]) -> list[Problem]:
    """Arrays that hold the same feature of the same part, or files that differ in their suffix alone."""
    first: dict[tuple[str, str], str] = {}
    stems: dict[tuple[str, str], str] = {}
    problems = []
    for feature, entry in places:
        twin = stems.setdefault((feature, stem(entry.path)), entry.path)
        if twin != entry.path and not entry.claimed:
            expected = f"the rows once; `files: {twin}` or `files: {entry.path}` says where"
            problems.append(Problem(path=entry.path, feature=feature, expected=expected, found=f"{twin} as well"))
            continue
        other = first.setdefault((feature, entry.part), entry.path)
        if other != entry.path:
            expected = f"one file of the feature in part {entry.part!r}"
            found = f"{other} as well"
            problems.append(Problem(path=entry.path, feature=feature, expected=expected, found=found))
    return problems


def find_splits(entries: Sequence[SourceFile], config: DatasetConfig) -> tuple[bool, list[Problem]]:
    """Whether each part's first directory names its split, and the files for which it cannot."""
    if config.splits is None:  # they do where all have the usual names; where some have, nobody knows what is meant
        usual = [(entry.directory or "").lower() in SPLIT_DIRECTORIES for entry in entries]
        if all(usual) or not any(usual):
            return any(usual), []
        example, other = (entries[usual.index(named)] for named in (True, False))
        expected = f"a directory that names a split, as in {example.path}; or `splits` in the configuration"
        return False, [other.problem(expected, "another place")]
    if config.splits != "directory":
        return False, []
    expected = "a file in a directory that names its split, as in train/images-000.npy"
    problems = []
    for entry in entries:
        if entry.directory is None:
            problems.append(entry.problem(expected, "no such directory"))
        elif entry.directory in RESERVED:
            problems.append(entry.problem(expected, f"{entry.directory!r}, which the output needs for something else"))
    return True, problems
