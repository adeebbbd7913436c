"""`manifest.json`: the on-disk contract between the build, which writes it last, and every reader."""

from __future__ import annotations

import dataclasses
import itertools
import json
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from loaders.format import names
from loaders.format.spec import FeatureSpec

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)


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
        offsets: The byte at which each chunk's first record begins; None where all records have one size.
    """

    file: str
    rows: int
    bytes: int
    crc32c: str
    offsets: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """This shard as JSON values; `from_json` reads it."""
        value = dataclasses.asdict(self)
        if self.offsets is None:
            del value["offsets"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shard:
        """Reads what `to_json` wrote.

        Raises:
            TypeError: If a field is missing or unknown.
        """
        offsets = value.get("offsets")
        return cls(**{**value, "offsets": None if offsets is None else tuple(offsets)})


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
        features: The features of a row as the shards hold them, sorted by name.
        splits: The shards of each split, in order.
        files: The other files of the data set: transform, schema and statistics.
        rows_per_record: How many rows a record holds; the last record of a shard may hold fewer.
        record_bytes: The size of a full record in its file, framing included: record k of a shard begins at
            `k * record_bytes`. None where records differ in size.
        chunk_records: How many records a chunk holds, for which each shard has an offset; the last chunk of a shard
            may hold fewer. None where all full records have one size.
        seed: The seed of the splits and of the order of rows.
        source_fingerprint: A digest of the sources' paths, sizes and layouts.
        transform: The transform's directory from the root, or None where no feature is transformed.
        transformed: The features of a row after the transform, sorted by name, where the shards hold one as it is in
            the sources; None where the shards hold every feature transformed.
        dropped: How many rows of the sources a filter has left out.
        skipped: The sources that were left out because they cannot be used: each with `path`, `expected`, `found` and
            `feature`.
        config: The resolved configuration; a build from it gives the same shards.
        versions: The versions of the packages that wrote the data set.
        sources: The features as the sources have them, sorted by name: name, dtype, shape and unit.
        transform_from: A digest of the data set whose transform this one has, or None where it was learned from this
            one's own rows.

    Raises:
        ValueError: If the records' size or index does not fit the features and the rows.
    """

    features: tuple[FeatureSpec, ...]
    splits: Mapping[str, tuple[Shard, ...]]
    files: tuple[File, ...]
    rows_per_record: int
    record_bytes: int | None
    seed: int
    source_fingerprint: str
    transform: str | None
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    chunk_records: int | None = None
    transformed: tuple[FeatureSpec, ...] | None = None
    dropped: int = 0
    skipped: tuple[Mapping[str, Any], ...] = ()
    sources: tuple[FeatureSpec, ...] = ()
    transform_from: str | None = None

    def __post_init__(self) -> None:
        variable = [feature.name for feature in self.features if feature.variable]
        found = f"record_bytes {self.record_bytes}, chunk_records {self.chunk_records}"
        if variable and (self.record_bytes is not None or not self.chunk_records or self.chunk_records < 1):
            raise ValueError(f"expected only chunk_records, as rows of {variable[0]} differ in size; found {found}")
        if not variable and (not self.record_bytes or self.chunk_records is not None):
            raise ValueError(f"expected only record_bytes, as all rows have one size; found {found}")
        for shards in self.splits.values():
            for shard in shards:
                self._check_offsets(shard)

    def _check_offsets(self, shard: Shard) -> None:
        """Whether a shard has the offset of each chunk, and only where there is an index.

        A reader of an index with a chunk too few would give fewer rows, and no error.
        """
        found = (
            "no offsets" if shard.offsets is None else f"offsets {shard.offsets[:3]}… of {len(shard.offsets)} chunks"
        )
        if self.chunk_records is None:
            if shard.offsets is not None:
                raise ValueError(f"{shard.file}: expected no offsets, as all records have one size; found {found}")
            return
        chunks = -(-shard.rows // (self.rows_per_record * self.chunk_records))
        ends = (*(shard.offsets or ()), shard.bytes)
        rising = all(first < second for first, second in itertools.pairwise(ends))
        if shard.offsets is None or len(shard.offsets) != chunks or (chunks and (ends[0] != 0 or not rising)):
            raise ValueError(
                f"{shard.file}: expected {chunks} offsets that rise from 0 to below {shard.bytes}; found {found}"
            )

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
            "chunk_records": self.chunk_records,
            "splits": {
                name: {
                    "rows": self.rows(name),
                    "shards": [shard.to_json() for shard in shards],
                }
                for name, shards in self.splits.items()
            },
            "files": [dataclasses.asdict(file) for file in self.files],
            "seed": self.seed,
            "source_fingerprint": self.source_fingerprint,
            "transform": self.transform,
            "transformed": None if self.transformed is None else [spec.to_json() for spec in self.transformed],
            "dropped": self.dropped,
            "skipped": [dict(problem) for problem in self.skipped],
            "sources": [spec.to_json() for spec in self.sources],
            "transform_from": self.transform_from,
            "config": self.config,
            "versions": self.versions,
        }
        return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def loads(cls, text: str | bytes, *, path: str = names.MANIFEST) -> Manifest:
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
        if value.get("format_version") not in READABLE_VERSIONS:
            raise ManifestError(
                f"{path}: this version of npyflow reads format versions {', '.join(map(str, READABLE_VERSIONS))}; "
                f"found {value.get('format_version')!r}"
            )
        if value["format_version"] == 1:
            value = {**_VERSION_1, **value}
        try:
            return cls(
                features=_load_features(value["features"]),
                splits={name: _load_shards(name, split) for name, split in value["splits"].items()},
                files=tuple(File(**file) for file in value["files"]),
                rows_per_record=value["rows_per_record"],
                record_bytes=value["record_bytes"],
                chunk_records=value["chunk_records"],
                seed=value["seed"],
                source_fingerprint=value["source_fingerprint"],
                transform=value["transform"],
                transformed=None if value["transformed"] is None else _load_features(value["transformed"]),
                dropped=value["dropped"],
                skipped=tuple(value["skipped"]),
                sources=_load_features(value.get("sources", ())),
                transform_from=value.get("transform_from"),
                config=value["config"],
                versions=value["versions"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"{path}: a field is missing or wrong: {error}") from error


_VERSION_1: Mapping[str, Any] = {"chunk_records": None, "transformed": None, "dropped": 0, "skipped": []}
"""What the keys that version 2 added are in a data set of version 1."""


def _load_features(values: Iterable[Mapping[str, Any]]) -> tuple[FeatureSpec, ...]:
    return tuple(FeatureSpec.from_json(value) for value in values)


def _load_shards(name: str, split: Mapping[str, Any]) -> tuple[Shard, ...]:
    shards = tuple(Shard.from_json(shard) for shard in split["shards"])
    for shard in shards:
        # A manifest names only files of its own data set, whoever wrote it.
        if shard.file != f"{name}/{posixpath.basename(shard.file)}" or name in ("", ".", "..") or "/" in name:
            raise ValueError(f"split {name}: expected shards in its own directory; found {shard.file!r}")
    rows = sum(shard.rows for shard in shards)
    if split["rows"] != rows:
        raise ValueError(f"split {name}: expected {rows} rows, as its shards have together; found {split['rows']}")
    return shards
