"""What a data set was made of: its parts in `sources.json`, and its features as the sources have them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from loaders.format.manifest import ManifestError
from loaders.format.spec import FeatureSpec
from pipelines.errors import Problem
from pipelines.sources.parts import Part, encode
from pipelines.sources.table import SourceTable
from pipelines.storage import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartRecord:
    """One part, as it was when its rows were read.

    Attributes:
        fingerprint: A BLAKE2b digest of its split and its arrays: paths, layouts, sizes and times of change.
    """

    name: str
    rows: int
    fingerprint: str

    @classmethod
    def of(cls, part: Part) -> PartRecord:
        """The record of a part."""
        sources = {feature: source.to_json() for feature, source in part.sources.items()}
        text = encode([part.name, part.split, part.directory, part.rows, sources])
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return cls(name=part.name, rows=part.rows, fingerprint=digest)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """The parts that a data set was made of.

    Attributes:
        directories: The names of the classes 0, 1, … of features whose source is the directory.
    """

    parts: tuple[PartRecord, ...]
    directories: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: SourceTable) -> Provenance:
        """That of a data set of these sources."""
        return cls(parts=tuple(map(PartRecord.of, table.parts)), directories=table.directories)

    def dumps(self) -> str:
        """The text of `sources.json`: a line for each part."""
        lines = ",\n".join(json.dumps(vars(part), ensure_ascii=False) for part in self.parts)
        directories = json.dumps(self.directories, ensure_ascii=False)
        return f'{{"directories": {directories},\n"parts": [\n{lines}\n]}}\n'

    @classmethod
    def loads(cls, text: str | bytes, *, path: str) -> Provenance:
        """Reads what `dumps` wrote; a ManifestError if it is something else."""
        try:
            value = json.loads(text)
            return cls(
                parts=tuple(PartRecord(**part) for part in value["parts"]), directories=tuple(value["directories"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"{path}: expected the parts of a data set; found {error}") from error


def raw_specs(table: SourceTable) -> tuple[FeatureSpec, ...]:
    """The features as the sources have them: dtype, shape of a row, unit."""
    return tuple(FeatureSpec(name=f.name, dtype=f.kind_name, shape=f.shape, unit=f.unit) for f in table.features)


def schema_differences(expected: Sequence[FeatureSpec], table: SourceTable, *, other: str) -> list[Problem]:
    """How the features of sources differ from those of a data set, which messages call `other`.

    Returns:
        A problem for each feature that is missing, that the data set does not have, or that has another dtype, shape
        of a row, or unit.
    """
    known, found = ({spec.name: spec for spec in specs} for specs in (expected, raw_specs(table)))
    problems = []
    for name in sorted({*known, *found}):
        if name not in found or name not in known:
            has, has_not = ("the feature", "none") if name in known else ("no such feature", "one")
            problems.append(_problem(table, name, expected=f"{has}, as {other} has it", found=has_not))
            continue
        was, now = known[name], found[name]
        for what in ("dtype", "shape", "unit"):
            old, new = getattr(was, what), getattr(now, what)
            if old != new:
                said = f"{what} {'none' if old == '' else old}, as in {other}"
                problems.append(_problem(table, name, expected=said, found="none" if new == "" else str(new)))
    return problems


def _problem(table: SourceTable, feature: str, *, expected: str, found: str) -> Problem:
    paths = (part.sources[feature].path for part in table.parts if feature in part.sources)
    path = next(paths, None)
    where = table.root if path is None else files.locate(table.root, path)
    return Problem(path=where, feature=feature, expected=expected, found=found)


def source_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a resolved configuration says about where arrays are and how they are read, and nothing of the transform.

    With it sources are found that lack features of the configuration, so that all differences can be listed. Such keys
    of features as are not as they would be unsaid are left. That rows are along the first axis is said once for all, so
    that nothing is recognised anew.
    """
    features = {}
    for name, said in config["features"].items():
        own = {key: said[key] for key in ("files", "source", "ragged", "patch", "window") if said.get(key) is not None}
        if said.get("row_axes", 1) != 1 and not own.get("ragged"):
            own["row_axes"] = said["row_axes"]
        if own:
            features[name] = own
    return {"row_axes": 1} | {key: config[key] for key in config if key != "preprocessing_fn"} | {"features": features}


def changed_parts(before: Provenance, table: SourceTable) -> tuple[tuple[Part, ...], list[Problem]]:
    """The parts that a data set does not have yet, and a problem for each that has changed since it was read."""
    known = {record.name: record for record in before.parts}
    new, problems = [], []
    for part in table.parts:
        if part.name not in known:
            new.append(part)
            continue
        was, now = known[part.name], PartRecord.of(part)
        if was != now:
            expected = f"part {part.name!r} as it was when its rows were read"
            found = f"{now.rows} rows instead of {was.rows}" if was.rows != now.rows else "other files, or changed ones"
            path = next((files.locate(table.root, source.path) for source in part.sources.values()), table.root)
            problems.append(Problem(path=path, expected=expected, found=found))
    return tuple(new), problems
