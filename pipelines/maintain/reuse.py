"""The transform of one data set used for another: what is read of the first, and how the second is planned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from loaders.format.manifest import File, Manifest, ManifestError
from loaders.format.names import OF_TRAINING_ROWS, SOURCES, STAGED, TRANSFORM
from loaders.format.savedmodel import MODEL, read_model
from pipelines.config.resolved import UserFunction
from pipelines.config.schema import DatasetConfig, parse_config
from pipelines.errors import ConfigError, Problem, SourceError
from pipelines.output.directory import Output, read_listed, read_manifest
from pipelines.output.tasks import mark_learned
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.runners.process_setup import quick_imports
from pipelines.sources.arrays import Arrays
from pipelines.sources.provenance import Provenance, schema_differences, source_settings
from pipelines.sources.table import SourceTable, scan
from pipelines.storage import directories, files

ALL_ROWS = "all"
"""The split of rows that another data set's transform is applied to: none are kept apart, as nothing is learned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Existing:
    """A finished data set, and the parts that it was made of."""

    root: str
    manifest: Manifest
    provenance: Provenance

    @property
    def learned(self) -> tuple[File, ...]:
        """The files of the transform, and of what is known of the rows that it was learned from."""
        files_of = self.manifest.with_staged(()).files
        return tuple(f for f in files_of if f.file in OF_TRAINING_ROWS or f.file.startswith(f"{TRANSFORM}/"))

    def read(self, name: str) -> bytes:
        """A file beside the shards, which has to be as the manifest says: what is wrong would not be found later.

        A ManifestError where it is not, or there is none.
        """
        data = read_listed(self.root, self.manifest, name)
        if data is None:
            raise ManifestError(f"{self.root}: expected {name}; found none in the manifest")
        return data

    def check_transform(self, *, trust: bool) -> None:
        """Compares the transform, and what was learned with it, with the manifest, before anything of it is run.

        Raises:
            ManifestError: If a file is not as the manifest says, or one is there that it does not list; or if the
                transform does more than compute, unless it is trusted.
        """
        for file in self.learned:
            if not file.file.startswith(f"{TRANSFORM}/{MODEL}/"):
                self.read(file.file)
        with quick_imports():  # TensorFlow says what a SavedModel holds
            read_model(
                self.manifest, lambda place: self.read(place.removeprefix(f"{STAGED}/")), root=self.root, trust=trust
            )
        listed = {file.file for file in self.manifest.files}
        for found in directories.list_files(files.join(self.root, str(self.manifest.transform))):
            if (place := f"{self.manifest.transform}/{found.path}") not in listed:
                raise ManifestError(f"{self.root}/{place}: expected only files of the manifest; found this file")

    @property
    def fingerprint(self) -> str:
        """A BLAKE2b digest of the transform and of what is known of the rows that it was learned from."""
        text = json.dumps([dataclasses.asdict(file) for file in self.learned])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def custom(self) -> UserFunction | None:
        """The user's own function, of which only what it gives is needed where its transform is there already."""
        place = self.manifest.config.get("preprocessing_fn")
        return None if place is None else UserFunction(place=place, digest="", specs=self.manifest.features)


def open_existing(root: str) -> Existing:
    """Reads what is known of a finished data set.

    A ManifestError where there is none, and a ConfigError where an older version kept nothing of its sources.
    """
    manifest = read_manifest(root)
    path = Output(root).path(manifest.place(SOURCES))
    if not manifest.sources or not files.exists(path):
        raise ConfigError(
            f"{root}: expected a data set with {SOURCES}, which says what it was made of; found an older one"
        )
    return Existing(
        root=files.absolute(root),
        manifest=manifest,
        provenance=Provenance.loads(files.read_bytes(path), path=path),
    )


def plan_reuse(source: str | Arrays, existing: Existing, config: DatasetConfig, *, trust: bool = False) -> Plan:
    """Plans a build that takes another data set's transform, with its configuration of the features.

    Of features the configuration says only where their files are; what it does not say of the seed and the like is as
    it is in the other data set. Rows are one split, `all`, where neither the user nor directories say otherwise. Errors
    are those of `build`.
    """
    if existing.manifest.transform is None:
        raise ConfigError(f"{existing.root}: expected a data set with a transform; found one without")
    existing.check_transform(trust=trust)
    if config.preprocessing_fn is not None:
        raise ConfigError(
            f"preprocessing_fn: the transform is that of {existing.root}; found {config.preprocessing_fn}"
        )
    combined = combine(existing, config)
    if config.splits is None:
        del combined["splits"]
    table = check_against(existing, scan(source, parse_config(source_settings(combined))))
    if config.splits is None:
        combined["splits"] = "directory" if table.by_directory else {ALL_ROWS: 1.0}
        combined["training"] = config.training
    resolved = resolve_config(parse_config(combined), table, learns=False, custom=existing.custom)
    why = resolved.why
    if config.splits is None and not table.by_directory:
        why = "nothing is said of splits, and nothing is learned, so all rows are one"
    of_feature = f"as in {existing.root}, whose transform is used"
    features = tuple(dataclasses.replace(feature, why=of_feature) for feature in resolved.features)
    return make_plan(table, dataclasses.replace(resolved, features=features, why=why))


def combine(existing: Existing, config: DatasetConfig) -> dict[str, Any]:
    """A data set's configuration with what the user said.

    A ConfigError where the user said more of a feature than where its files are.
    """
    said = {key: getattr(config, key) for key in config.model_fields_set - {"features", "preprocessing_fn"}}
    features = {name: dict(value) for name, value in existing.manifest.config["features"].items()}
    for name, feature in config.features.items():
        other = feature.model_fields_set - {"files"}
        if other:
            found = ", ".join(sorted(other))
            raise ConfigError(
                f"features.{name}: only files can be said, as all else is that of {existing.root}; found {found}"
            )
        features.setdefault(name, {})["files"] = feature.files
    combined = {**existing.manifest.config, **said, "features": features}
    if "splits" in said and "training" not in said:
        combined.pop("training", None)
    if "layout" in said and "rows_per_record" not in said:
        combined.pop("rows_per_record", None)
    return combined


def check_against(existing: Existing, table: SourceTable) -> SourceTable:
    """Checks that sources are such as those of a data set; returns them with its numbers of classes of directories.

    A SourceError lists every difference: features, dtypes, shapes, units, directories that name no class.
    """
    problems = schema_differences(existing.manifest.sources, table, other=existing.root)
    known = existing.provenance.directories
    for directory in table.directories:
        if directory not in known:
            expected = f"a directory that names a class, as in {existing.root}: {', '.join(known)}"
            problems.append(Problem(path=files.join(table.root, directory), expected=expected, found="another one"))
    if problems:
        raise SourceError(problems)
    return dataclasses.replace(table, directories=known)


def copy_learned(existing: Existing, output: Output) -> None:
    """Copies the transform, and what is known of the rows that it was learned from, to where an analysis puts it.

    Errors are those of `Existing.read`.
    """
    for file in existing.learned:
        files.write_bytes(files.join(output.staged, *file.file.split("/")), existing.read(file.file))
    mark_learned(output)
