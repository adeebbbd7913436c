"""`manifest.json`: the on-disk contract between the build, which writes it last, and every reader."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, get_type_hints

import google_crc32c
import msgspec

from loaders.format import manifest_digest, names
from loaders.format.record_layout import record_bytes
from loaders.format.spec import FeatureSpec

FORMAT_VERSION = 3
READABLE_VERSIONS = (1, 2, 3)
SEALED_SINCE = 3
"""The first version whose manifests end with a digest of themselves."""

LEAST_VARIABLE_BYTES = 2
"""What a row of a ragged or a text feature has in its record at least: a tag and a length."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Checksum = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]


class ManifestError(ValueError):
    """A directory that is not a data set, or one that this version cannot read."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
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
    rows: Count
    bytes: Count
    crc32c: Checksum
    offsets: tuple[Count, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """As its values; what `dataclasses` does for slots takes three times as long, and there may be a million."""
        return _make_shard, (self.file, self.rows, self.bytes, self.crc32c, self.offsets)

    def to_json(self) -> dict[str, Any]:
        """This shard as JSON values; `from_json` reads it."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shard:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: If a field is missing, or of another type or range.
        """
        return msgspec.convert(value, cls)


def _make_shard(file: str, rows: int, size: int, crc32c: str, offsets: tuple[int, ...] | None) -> Shard:
    return Shard(file=file, rows=rows, bytes=size, crc32c=crc32c, offsets=offsets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file beside the shards; what is said of it is as in `Shard`."""

    file: str
    bytes: Count
    crc32c: Checksum


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
        transform: The transform's directory from the root, or None where no feature is transformed; `place` says when
            it is not `transform`.
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

    # In the order of the file. What has a value here was added by a later version.
    features: tuple[FeatureSpec, ...]
    rows_per_record: Positive
    record_bytes: Positive | None
    chunk_records: Positive | None = None
    splits: Mapping[str, tuple[Shard, ...]]
    files: tuple[File, ...]
    seed: int
    source_fingerprint: str
    transform: str | None
    transformed: tuple[FeatureSpec, ...] | None = None
    dropped: Count = 0
    skipped: tuple[Mapping[str, Any], ...] = ()
    sources: tuple[FeatureSpec, ...] = ()
    transform_from: str | None = None
    config: Mapping[str, Any]
    versions: Mapping[str, str]

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

    def place(self, name: str) -> str:
        """Where a file beside the shards lies, from the root.

        That is its name, but for the moments in which a data set takes the place of another: then what is new is read
        where it was made.
        """
        return next((file.file for file in self.files if file.file == f"{names.STAGED}/{name}"), name)

    def lists(self, name: str) -> bool:
        """Whether there is a file of a name beside the shards."""
        return any(file.file == self.place(name) for file in self.files)

    def check_file(self, file: str, content: bytes | None, path: str) -> None:
        """Compares a file beside the shards, as it was read at a path (None: there is none), with what is listed.

        Raises:
            ManifestError: If it is another one.
        """
        listed = {own.file: f"{own.bytes} bytes with CRC-32C {own.crc32c}" for own in self.files}
        expected, found = listed.get(file, "no such file"), "no file"
        if content is not None:
            found = f"{len(content)} bytes with CRC-32C {google_crc32c.value(content):08x}"
        if found != expected:
            raise ManifestError(f"{path}: expected {expected}; found {found}")

    @property
    def staged(self) -> tuple[str, ...]:
        """The names of the files beside the shards that are not in their places yet."""
        inside = f"{names.STAGED}/"
        return tuple(file.file.removeprefix(inside) for file in self.files if file.file.startswith(inside))

    def with_staged(self, staged: Collection[str]) -> Manifest:
        """The same with these files beside the shards, and no others, where they were made."""
        named = [file.file.removeprefix(f"{names.STAGED}/") for file in self.files]
        files = tuple(
            dataclasses.replace(file, file=f"{names.STAGED}/{name}" if name in staged else name)
            for file, name in zip(self.files, named, strict=True)
        )
        moved = any(name.startswith(f"{names.TRANSFORM}/") for name in staged)
        transform = self.transform and (f"{names.STAGED}/{names.TRANSFORM}" if moved else names.TRANSFORM)
        return dataclasses.replace(self, files=files, transform=transform)

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
        value: dict[str, Any] = {"format": "npyflow", "format_version": FORMAT_VERSION}
        value |= {field.name: getattr(self, field.name) for field in _FIELDS}
        value["splits"] = {
            name: {"rows": self.rows(name), "shards": [shard.to_json() for shard in shards]}
            for name, shards in self.splits.items()
        }
        return manifest_digest.add(json.dumps(value, indent=1, ensure_ascii=False, default=msgspec.to_builtins))

    @classmethod
    def loads(cls, text: str | bytes, *, path: str = names.MANIFEST) -> Manifest:
        """Reads the text of a manifest.

        Nothing in it is believed: every value has its type and range, every file lies in the data set's directory,
        and sizes and numbers of rows agree.

        Args:
            text: What `dumps` wrote.
            path: Where it was found, for messages.

        Raises:
            ManifestError: If it is not a manifest, is of a format version that this reader does not know, or was
                changed since it was written.
        """
        data = text.encode() if isinstance(text, str) else text
        try:
            head = msgspec.json.decode(data, type=_Head)
        except msgspec.ValidationError as error:
            raise ManifestError(f'{path}: expected a manifest with "format": "npyflow"') from error
        except (ValueError, RecursionError) as error:  # neither UTF-8 nor JSON
            raise ManifestError(f"{path}: expected a JSON manifest; found {error}") from error
        if head.format_version not in READABLE_VERSIONS:
            raise ManifestError(
                f"{path}: this version of npyflow reads format versions {', '.join(map(str, READABLE_VERSIONS))}; "
                f"found {head.format_version!r}"
            )
        if head.format_version >= SEALED_SINCE and (found := manifest_digest.broken(data)):
            raise ManifestError(f"{path}: {found}")
        try:
            return _manifest(msgspec.json.decode(data, type=_Document))
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{path}: a field is missing or wrong: {error}") from error


class _Head(msgspec.Struct):
    format: Literal["npyflow"]
    format_version: Any = None


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    rows: Count
    shards: tuple[Shard, ...]


_HINTS = get_type_hints(Manifest, include_extras=True) | {
    "splits": dict[str, _Split],
    "transform": Literal["transform", "_build/publish/transform"] | None,
}
_FIELDS = dataclasses.fields(Manifest)

_Document = msgspec.defstruct(
    "_Document",
    [
        ("format", str),
        ("format_version", int),
        *(
            (field.name, _HINTS[field.name])
            if field.default is dataclasses.MISSING
            else (field.name, _HINTS[field.name], field.default)
            for field in _FIELDS
        ),
        ("sha256", str, ""),
    ],
    kw_only=True,
    forbid_unknown_fields=True,
)
"""What stands in the file."""


def _manifest(document: Any) -> Manifest:
    """The manifest that a document holds, if its parts agree.

    Raises:
        ValueError: If they do not.
    """
    for name, split in document.splits.items():
        _check_split(name, split)
    _check_files([file.file for file in document.files])
    fields = {field.name: getattr(document, field.name) for field in _FIELDS}
    found = Manifest(**fields | {"splits": {name: split.shards for name, split in document.splits.items()}})
    _check_sizes(found)
    return found


def _check_split(name: str, split: _Split) -> None:
    """Checks that a manifest names only files of its own data set, each once, whoever wrote it."""
    if not names.is_split_name(name):
        raise ValueError(f"split {name}: expected a name of a directory in the data set's own")
    for shard in split.shards:
        directory, *parts = shard.file.split("/")
        if directory != name or len(parts) != 1 or not names.is_file_name(parts[0]):
            raise ValueError(f"split {name}: expected shards in its own directory; found {shard.file!r}")
    _check_once([shard.file for shard in split.shards])
    rows = sum(shard.rows for shard in split.shards)
    if split.rows != rows:
        raise ValueError(f"split {name}: expected {rows} rows, as its shards have together; found {split.rows}")


def _check_files(files: Sequence[str]) -> None:
    """Checks that the other files are those that a data set can have."""
    found = [file.removeprefix(f"{names.STAGED}/") for file in files]
    for file in found:
        directory, *parts = file.split("/")
        inside = directory == names.TRANSFORM and parts and all(map(names.is_file_name, parts))
        if file not in (*names.ALWAYS, *names.OPTIONAL) and not inside:
            raise ValueError(f"files: expected a file that a data set has beside its shards; found {file!r}")
    _check_once(found)


def _check_once(files: Sequence[str]) -> None:
    if len(set(files)) < len(files):
        twice = next(file for number, file in enumerate(files) if file in files[:number])
        raise ValueError(f"expected each file once; found {twice} twice")


def _check_sizes(manifest: Manifest) -> None:
    """Checks that records and shards have the sizes that their rows need."""
    shards = [shard for split in manifest.splits.values() for shard in split]
    if manifest.record_bytes is None:
        for shard in shards:
            if shard.bytes < shard.rows * LEAST_VARIABLE_BYTES or (shard.rows == 0) != (shard.bytes == 0):
                raise ValueError(f"{shard.file}: expected enough bytes for {shard.rows} rows; found {shard.bytes}")
        return
    size_of = functools.cache(functools.partial(_shard_bytes, manifest.features, manifest.rows_per_record))
    if manifest.record_bytes != size_of(manifest.rows_per_record):
        raise ValueError(
            f"record_bytes: expected {size_of(manifest.rows_per_record)}, which {manifest.rows_per_record} rows of "
            f"these features need; found {manifest.record_bytes}"
        )
    for shard in shards:
        full, left = divmod(shard.rows, manifest.rows_per_record)
        expected = full * manifest.record_bytes + size_of(left)
        if shard.bytes != expected:
            raise ValueError(f"{shard.file}: expected {expected} bytes for {shard.rows} rows; found {shard.bytes}")


def _shard_bytes(features: tuple[FeatureSpec, ...], rows_per_record: int, rows: int) -> int:
    """The bytes of no record, or of one of so many rows."""
    return record_bytes(features, rows_per_record, rows=rows) if rows else 0
