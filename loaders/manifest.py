"""`manifest.json`: the on-disk contract between the build, which writes it last, and every reader."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from typing import Any

from loaders.spec import FeatureSpec

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1


class ManifestError(ValueError):
    """A directory that is not a data set, or one that this version cannot read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One TFRecord file.

    Attributes:
        file: The path from the data set's root, with forward slashes.
        rows: How many rows it holds.
        bytes: Its size.
        crc32c: The CRC-32C of the whole file, eight hexadecimal digits.
    """

    file: str
    rows: int
    bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file beside the shards.

    Attributes:
        file: The path from the data set's root, with forward slashes.
        bytes: Its size.
        crc32c: As in `Shard`.
    """

    file: str
    bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The facts about one data set.

    Attributes:
        features: The features of a row, sorted by name.
        splits: The shards of each split, in order.
        files: The other files of the data set: transform, schema and statistics.
        rows_per_record: How many rows a record holds; the last record of a shard may hold fewer.
        record_bytes: The size of a full record in its file, framing included: record k of a shard begins at
            `k * record_bytes`.
        seed: The seed of the splits and of the order of rows.
        source_fingerprint: A digest of the sources' paths, sizes and layouts.
        transform: The transform's directory from the root, or None where no feature is transformed.
        config: The resolved configuration; a build from it gives the same shards.
        versions: The versions of the packages that wrote the data set.
    """

    features: tuple[FeatureSpec, ...]
    splits: Mapping[str, tuple[Shard, ...]]
    files: tuple[File, ...]
    rows_per_record: int
    record_bytes: int
    seed: int
    source_fingerprint: str
    transform: str | None
    config: Mapping[str, Any]
    versions: Mapping[str, str]

    def rows(self, split: str) -> int:
        """The number of rows in a split.

        Raises:
            ManifestError: If there is no such split.
        """
        return sum(shard.rows for shard in self.shards(split))

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split.

        Raises:
            ManifestError: If there is no such split.
        """
        if split not in self.splits:
            raise ManifestError(f"there is no split {split!r}; the splits are {', '.join(self.splits)}")
        return self.splits[split]

    def dumps(self) -> str:
        """The text of `manifest.json`."""
        value = {
            "format": "npyflow",
            "format_version": FORMAT_VERSION,
            "features": [feature.to_json() for feature in self.features],
            "rows_per_record": self.rows_per_record,
            "record_bytes": self.record_bytes,
            "splits": {
                name: {
                    "rows": self.rows(name),
                    "shards": [dataclasses.asdict(shard) for shard in shards],
                }
                for name, shards in self.splits.items()
            },
            "files": [dataclasses.asdict(file) for file in self.files],
            "seed": self.seed,
            "source_fingerprint": self.source_fingerprint,
            "transform": self.transform,
            "config": self.config,
            "versions": self.versions,
        }
        return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def loads(cls, text: str | bytes, *, path: str = FILE_NAME) -> Manifest:
        """Reads the text of a manifest.

        Args:
            text: What `dumps` wrote.
            path: Where it was found, for messages.

        Raises:
            ManifestError: If it is not a manifest, or is of a format version that this reader does not know.
        """
        try:
            value = json.loads(text)
        except ValueError as error:  # neither UTF-8 nor JSON
            raise ManifestError(f"{path}: expected a JSON manifest; found {error}") from error
        if not isinstance(value, dict) or value.get("format") != "npyflow":
            raise ManifestError(f'{path}: expected a manifest with "format": "npyflow"')
        if value.get("format_version") != FORMAT_VERSION:
            raise ManifestError(
                f"{path}: this version of npyflow reads format version {FORMAT_VERSION}; "
                f"found {value.get('format_version')!r}"
            )
        try:
            return cls(
                features=tuple(FeatureSpec.from_json(feature) for feature in value["features"]),
                splits={name: _load_shards(name, split) for name, split in value["splits"].items()},
                files=tuple(File(**file) for file in value["files"]),
                rows_per_record=value["rows_per_record"],
                record_bytes=value["record_bytes"],
                seed=value["seed"],
                source_fingerprint=value["source_fingerprint"],
                transform=value["transform"],
                config=value["config"],
                versions=value["versions"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"{path}: a field is missing or wrong: {error}") from error


def _load_shards(name: str, split: Mapping[str, Any]) -> tuple[Shard, ...]:
    shards = tuple(Shard(**shard) for shard in split["shards"])
    for shard in shards:
        # A manifest names only files of its own data set, whoever wrote it.
        if shard.file != f"{name}/{posixpath.basename(shard.file)}" or name in ("", ".", "..") or "/" in name:
            raise ValueError(f"split {name}: expected shards in its own directory; found {shard.file!r}")
    rows = sum(shard.rows for shard in shards)
    if split["rows"] != rows:
        raise ValueError(f"split {name}: expected {rows} rows, as its shards have together; found {split['rows']}")
    return shards
