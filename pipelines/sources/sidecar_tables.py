"""Tables beside arrays that name no files: each column is a feature, whose rows are those of the arrays in their order.

They become what the user could have said, `files: labels.csv` for each column.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Set

from pipelines.config.schema import DatasetConfig, FeatureConfig
from pipelines.errors import Problem
from pipelines.sources.formats import is_container, is_table, stem, suffix_of
from pipelines.sources.formats.protocol import FormatError
from pipelines.sources.formats.tabular import TableColumns, read_table
from pipelines.sources.headers import FileHeaders
from pipelines.sources.path_layout import SourceFile, arrange, match_pattern, matches_any, place
from pipelines.sources.row_alignment import names_files
from pipelines.storage import files
from pipelines.storage.directories import FileInfo

_NO_TABLE = FormatError(expected="a table", found="none")


Tables = Mapping[str, TableColumns]
"""Tables by their paths, each with the columns of its kind."""


def check_tables(tables: Tables, headers: Mapping[str, FileHeaders], others: Iterable[Problem]) -> list[Problem]:
    """What is wrong where tables were joined: with their columns, or else what has been found; and what leaves one out.

    Tables of one kind have the same columns: none is passed over, or taken for another.
    """
    problems = []
    for path, columns in tables.items():
        found = [member.name for member in headers[path] if member.name]
        if found and set(found) != set(columns):
            expected = f"columns {', '.join(columns)}, as in other tables"
            problems.append(Problem(path=path, expected=expected, found=", ".join(found)))
    advice = "(or row_axes: 1, if it is no source)"
    return [
        dataclasses.replace(problem, expected=f"{problem.expected} {advice}") if problem.path in tables else problem
        for problem in problems or others
    ]


def join_tables(
    root: str, listing: Mapping[str, FileInfo], config: DatasetConfig
) -> tuple[DatasetConfig, dict[str, str], Tables]:
    """Finds tables that lie beside or above arrays, where neither the table nor the user says whose rows they have.

    A table that cannot be read is a feature of its own name, of which its header says what is wrong. With `row_axes` in
    the configuration nothing is recognised.

    Returns:
        The configuration that says so, for each column what it was recognised by, and the tables.
    """
    said = [pattern for feature in config.features.values() for pattern in feature.files or ()]
    unsaid = [path for path in filter(is_table, listing) if not matches_any(said, path)]
    if not unsaid or "row_axes" in config.model_fields_set:
        return config, {}, {}
    arrays = [path for path in listing if is_container(path)]
    parts = {entry.part for entry in arrange(listing, config)[0]}
    patterns: dict[str, list[SourceFile]] = collections.defaultdict(list)
    for path in sorted(unsaid):
        entry = place(path)
        if entry is not None and _pairs(entry.part, parts) and (pattern := _pattern(path, entry)):
            patterns[pattern].append(entry)
    features, why = dict(config.features), dict[str, str]()
    tables: dict[str, TableColumns] = {}
    for pattern, entries in patterns.items():
        columns = _columns(root, [listing[entry.path] for entry in entries]) or {entries[0].feature: _NO_TABLE}
        if names_files(columns, entries[0].path.rpartition("/")[0], arrays):
            continue
        tables |= {entry.path: columns for entry in entries}
        for name in columns:
            own = features.get(name, FeatureConfig())
            features[name] = own.model_copy(update={"files": (*(own.files or ()), pattern)})
            why[name] = f"a column of {pattern}, whose rows are those of the arrays beside it"
    return config.model_copy(update={"features": features}), why, tables


def _pairs(part: str, parts: Set[str]) -> bool:
    """Whether there are arrays of a part, or several parts below it whose rows a table could hold together."""
    return part in parts or sum(other.startswith(f"{part}/" if part else "") for other in parts) > 1


def _columns(root: str, tables: Iterable[FileInfo]) -> TableColumns | None:
    """The columns of the first table that can be read; of the others, headers say what is wrong."""
    for table in tables:
        try:
            return read_table(files.locate(root, table.path), table.size, table.modified)
        except (FormatError, OSError):
            continue
    return None


def _pattern(path: str, entry: SourceFile) -> str | None:
    """The pattern that gives a table the part in which its name puts it: `*/labels.csv` that of `train/labels.csv`."""
    *directories, name = path.split("/")
    number = entry.part.removeprefix("/".join(entry.folders)).removeprefix("/")
    steps = ["*"] * len(directories)
    if len(entry.folders) < len(directories):  # one names the feature
        place_of_name = len(directories) - 1 - directories[::-1].index(entry.feature)
        steps[place_of_name] = entry.feature
    file = f"{stem(name).removesuffix(number)}*{suffix_of(name)}" if number else name
    pattern = "/".join([*steps, file])
    return pattern if match_pattern(pattern, path) == entry.part else None
