"""Finds rows of a finished data set that are in more than one split: by hashes only, in bounded memory."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from loaders.format.frames import FOOTER_BYTES, HEADER_BYTES, record_layout
from loaders.format.manifest import Manifest, Shard
from loaders.format.spec import FeatureSpec
from loaders.order import hashing
from pipelines.errors import ConfigError, DataError, Problem
from pipelines.maintain.verify import read_manifest
from pipelines.storage import files

READ_BYTES = 4 * 2**20
HASHED_ROWS = 4096
"""Rows hashed together: their words and hashes stay in the cache."""

BUCKET_ROWS = 2**18
"""About how many rows a bucket holds: sorting them takes some 40 MiB, whatever the data set's size."""

EXAMPLES = 10
MATRIX_CELLS = 2**20

LANE_KEYS = (0x243F6A8885A308D3, 0xB7E151628AED2A6B)
"""Where the two halves of a hash begin, from the digits of pi and of e."""

DIGEST_BYTES = 1024
"""The width from which rows are hashed by BLAKE2b one by one. Measured on one core: of rows of 136 bytes 4,200,000 a
second in words and 680,000 by BLAKE2b, of 1,024 bytes 560,000 either way; a wide row has as many steps as words."""

ENTRY = np.dtype([("first", "<u8"), ("second", "<u8"), ("row", "<u8")])
"""What is kept of a row: its hash, of 128 bits, and its number in the data set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a row is stored.

    Attributes:
        file: The shard, from the data set's root.
        row: The row's number in the shard.
    """

    file: str
    row: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedRows:
    """The rows that two splits share.

    Attributes:
        splits: The names of the two splits.
        distinct: How many different rows are in both.
        rows: How many rows of each split are also in the other.
    """

    splits: tuple[str, str]
    distinct: int
    rows: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaks:
    """What a search for rows in more than one split has found.

    Attributes:
        features: The features that were compared.
        rows: How many rows were compared.
        distinct: How many different rows are in more than one split.
        pairs: Every two splits that share rows, in the order of the manifest.
        examples: For some of the rows that are in more than one split, one place in each of these splits.
    """

    features: tuple[str, ...]
    rows: int
    distinct: int
    pairs: tuple[SharedRows, ...]
    examples: tuple[tuple[Place, ...], ...]


def find_leaks(root: str, *, features: Sequence[str] | None = None) -> Leaks:
    """Finds rows that are in more than one split, equal bit for bit in what is compared.

    Each row is hashed to 128 bits. The hashes go to a temporary directory (24 bytes a row), sorted into buckets by
    their first bits, and each bucket is searched in memory.

    Args:
        root: A finished data set.
        features: The features that are compared; None for all whose role is `input`.

    Raises:
        ManifestError: If the directory holds no manifest that can be read.
        ConfigError: If a feature is not one of the data set, or none is compared.
        DataError: If a shard is not as the manifest says.
        OSError: If a shard cannot be read, or the temporary directory is full.
    """
    manifest = read_manifest(root)
    compared = _compared(manifest, features)
    shards = [shard for split in manifest.splits.values() for shard in split]
    rows = sum(shard.rows for shard in shards)
    with tempfile.TemporaryDirectory(prefix="npyflow-") as directory:
        buckets = Buckets(directory, rows)
        first = 0
        for shard in shards:
            for hashes in _hash_shard(root, shard, manifest, compared):
                buckets.add(hashes, first)
                first += len(hashes)
        search = _Search(manifest)
        for entries in buckets.read():
            search.add(entries)
    return search.leaks(tuple(spec.name for spec in compared))


def _compared(manifest: Manifest, names: Sequence[str] | None) -> tuple[FeatureSpec, ...]:
    known = {spec.name: spec for spec in manifest.features}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"features: expected some of {', '.join(known)}; found {name!r}")
    found = tuple(spec for spec in manifest.features if (spec.role == "input" if names is None else spec.name in names))
    if not found:
        raise ConfigError(
            f"features: expected features whose rows are compared, some of {', '.join(known)}; found none"
        )
    return found


def _hash_shard(
    root: str, shard: Shard, manifest: Manifest, compared: Sequence[FeatureSpec]
) -> Iterator[npt.NDArray[np.uint64]]:
    """The hashes of a shard's rows, `[rows, 2]`, some at a time."""
    path = files.join(root, shard.file)
    with files.open_input(path) as file:
        if any(spec.variable for spec in manifest.features):
            yield from _hash_parsed(file, path, shard, manifest, compared)
        else:
            yield from _hash_frames(file, path, shard, manifest, compared)


def _hash_frames(
    file: BinaryIO, path: str, shard: Shard, manifest: Manifest, compared: Sequence[FeatureSpec]
) -> Iterator[npt.NDArray[np.uint64]]:
    """Hashes records of a constant layout: the values of a feature are columns of the matrix of frames."""
    names, size = {spec.name for spec in compared}, manifest.rows_per_record
    whole, rest = divmod(shard.rows, size)
    for records, per_record in ((whole, size), (min(rest, 1), rest)):
        if not records:
            continue
        layout = record_layout(manifest.features, rows=per_record, rows_per_record=size)
        places = [p for spec, p in zip(layout.features, layout.values, strict=True) if spec.name in names]
        step = max(READ_BYTES // layout.frame_bytes, 1)
        for start in range(0, records, step):
            count = min(step, records - start)
            data = _read_exactly(file, count * layout.frame_bytes, path, shard)
            frames = np.frombuffer(data, np.uint8).reshape(count, layout.frame_bytes)
            values = [frames[:, offset : offset + length] for offset, length in places]
            yield from _hash_values(values, per_record)


def _read_exactly(file: BinaryIO, size: int, path: str, shard: Shard) -> bytes:
    data = file.read(size)
    if len(data) < size:
        expected = f"{shard.bytes} bytes with {shard.rows} rows"
        raise DataError(str(Problem(path=path, expected=expected, found="the end of the file before the last row")))
    return data


def _hash_values(values: Sequence[npt.NDArray[np.uint8]], per_record: int) -> Iterator[npt.NDArray[np.uint64]]:
    """Hashes the rows of records, given the bytes of each feature, `[records, bytes]`."""
    step = max(HASHED_ROWS // per_record, 1)
    for start in range(0, len(values[0]), step):
        pieces = [value[start : start + step] for value in values]
        yield hash_rows([piece.reshape(len(piece) * per_record, -1) for piece in pieces])


def hash_rows(pieces: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint64]:
    """A hash of 128 bits of each row's bytes: for wide rows BLAKE2b, for others two chains of splitmix64.

    The chains are those of `order.derive`, over words of 8 bytes, the last one of each piece filled up with 0. Each
    step is a bijection of the word, so rows that differ in one word never have equal hashes.

    Args:
        pieces: The bytes of each feature, uint8 `[rows, bytes]`.

    Returns:
        uint64 `[rows, 2]`.
    """
    if sum(piece.shape[1] for piece in pieces) >= DIGEST_BYTES:
        whole = np.concatenate(pieces, axis=1)
        return np.stack([_digest([row.data]) for row in whole])
    hashes = np.repeat(np.array(LANE_KEYS, dtype=np.uint64)[:, None], len(pieces[0]), axis=1)
    for piece in pieces:
        for word in _as_words(piece):
            hashes = hashing.mix64((hashes ^ word) + np.uint64(hashing.GAMMA))
    return hashes.T


def _as_words(piece: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The bytes of rows as words, `[words, rows]`, filled up with 0."""
    rows, size = piece.shape
    padded = np.zeros((rows, -(-size // 8) * 8), dtype=np.uint8)
    padded[:, :size] = piece
    return np.ascontiguousarray(padded.view("<u8").T)


def _hash_parsed(
    file: BinaryIO, path: str, shard: Shard, manifest: Manifest, compared: Sequence[FeatureSpec]
) -> Iterator[npt.NDArray[np.uint64]]:
    """Hashes records that differ in size, each parsed by protobuf."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    left = shard.rows
    while left:
        rows = min(left, manifest.rows_per_record)
        length = int.from_bytes(_read_exactly(file, HEADER_BYTES, path, shard)[:8], "little")
        if length > shard.bytes:
            raise DataError(str(Problem(path=path, expected="a record within the file", found=f"{length} bytes")))
        data = _read_exactly(file, length + FOOTER_BYTES, path, shard)[:-FOOTER_BYTES]
        try:
            found = tf.train.Example.FromString(data).features.feature
            columns = [_row_bytes(found[spec.name], spec, rows, manifest.rows_per_record) for spec in compared]
        except (DecodeError, ValueError) as error:
            raise DataError(str(Problem(path=path, expected=f"a record of {rows} rows", found=str(error)))) from error
        yield np.stack([_digest(row) for row in zip(*columns, strict=True)])
        left -= rows


def _row_bytes(feature: Any, spec: FeatureSpec, rows: int, rows_per_record: int) -> list[bytes]:
    """The bytes of each row; strings each begin with their length.

    Raises:
        ValueError: If the record does not hold them.
    """
    if spec.variable:
        strings = [len(text).to_bytes(8, "little") + text for text in feature.bytes_list.value]
        each = spec.row_elements if spec.dtype == "string" else 1
        if len(strings) != rows * each:
            raise ValueError(f"{len(strings)} strings of feature {spec.name} for {rows} rows")
        return [b"".join(strings[row * each : (row + 1) * each]) for row in range(rows)]
    match spec.encoding(rows_per_record):
        case "float_list":
            data = np.array(feature.float_list.value, dtype="<f4").tobytes()
        case "int64_list":
            data = np.array(feature.int64_list.value, dtype="<i8").tobytes()
        case _:
            data = b"".join(feature.bytes_list.value)
    if len(data) != rows * spec.row_bytes:
        raise ValueError(f"{len(data)} bytes of feature {spec.name} for {rows} rows of {spec.row_bytes}")
    return [data[row * spec.row_bytes : (row + 1) * spec.row_bytes] for row in range(rows)]


def _digest(pieces: Sequence[bytes | memoryview]) -> npt.NDArray[np.uint64]:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return np.frombuffer(digest.digest(), dtype="<u8").astype(np.uint64)


class Buckets:
    """Entries of rows in files of a directory, by the first bits of their hashes."""

    def __init__(self, directory: str, rows: int) -> None:
        """Makes no file yet.

        Args:
            directory: Where the files go.
            rows: How many rows will come.
        """
        self._directory = directory
        self._bits = max(math.ceil(math.log2(max(rows, 1) / BUCKET_ROWS)), 0)
        self._waiting: list[npt.NDArray[Any]] = []
        self._count = 0

    def add(self, hashes: npt.NDArray[np.uint64], first: int) -> None:
        """Adds rows with consecutive numbers.

        Args:
            hashes: uint64 `[rows, 2]`.
            first: The number of the first row.
        """
        entries = np.empty(len(hashes), dtype=ENTRY)
        entries["first"], entries["second"] = hashes[:, 0], hashes[:, 1]
        entries["row"] = np.arange(first, first + len(hashes))
        self._waiting.append(entries)
        self._count += len(entries)
        if self._count >= BUCKET_ROWS:
            self._spill()

    def _path(self, bucket: int) -> str:
        return os.path.join(self._directory, f"{bucket:06d}")

    def _spill(self) -> None:
        """Appends the waiting entries to their buckets; files are not kept open, as there may be thousands."""
        entries = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        # A shift by 64 bits would be no shift.
        numbers = (entries["first"] >> np.uint64(1)) >> np.uint64(63 - self._bits)
        entries = entries[np.argsort(numbers, kind="stable")]
        counts = np.bincount(numbers.astype(np.intp), minlength=1 << self._bits)
        stops = np.cumsum(counts)
        for bucket in np.flatnonzero(counts).tolist():
            with open(self._path(bucket), "ab") as file:
                file.write(entries[stops[bucket] - counts[bucket] : stops[bucket]].tobytes())

    def read(self) -> Iterator[npt.NDArray[Any]]:
        """Yields each bucket's entries, all rows of one hash in one bucket, and removes its file."""
        if self._waiting:
            self._spill()
        for bucket in range(1 << self._bits):
            path = self._path(bucket)
            if os.path.exists(path):
                yield np.fromfile(path, dtype=ENTRY)
                os.remove(path)


def _repeated(entries: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The entries that share the first half of their hashes with another, sorted by hash and then row.

    Most rows are the only one of their kind, and one key is sorted three times as fast as three.
    """
    by_first = np.argsort(entries["first"], kind="stable")
    first = entries["first"][by_first]
    same = np.concatenate([[False], first[1:] == first[:-1], [False]])
    entries = entries[by_first[same[1:] | same[:-1]]]
    return entries[np.lexsort((entries["row"], entries["second"], entries["first"]))]


class _Search:
    """Adds up what the buckets show."""

    def __init__(self, manifest: Manifest) -> None:
        self._splits = tuple(manifest.splits)
        self._shards = [shard for shards in manifest.splits.values() for shard in shards]
        owners = [number for number, shards in enumerate(manifest.splits.values()) for _ in shards]
        self._shard_split = np.array(owners, dtype=np.intp)
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
        count = len(self._splits)
        self._distinct = 0
        self._pair_distinct = np.zeros((count, count), dtype=np.int64)
        self._pair_rows = np.zeros((count, count), dtype=np.int64)
        self._examples: list[tuple[Place, ...]] = []

    def add(self, entries: npt.NDArray[Any]) -> None:
        """Searches one bucket, whose entries are in the order of their rows."""
        entries = _repeated(entries)
        if not len(entries):
            return
        same = (entries["first"][1:] == entries["first"][:-1]) & (entries["second"][1:] == entries["second"][:-1])
        splits = self._shard_split[self._shard_of(entries["row"])]
        # Rows are numbered split by split, so the rows that are equal and in one split are one run.
        runs = np.flatnonzero(np.concatenate([[True], ~same | (splits[1:] != splits[:-1])]))
        counts = np.diff(runs, append=len(entries))
        group = np.cumsum(np.concatenate([[True], ~same]))[runs]
        shared = np.bincount(group)[group] > 1
        runs, counts = runs[shared], counts[shared]
        _, group = np.unique(group[shared], return_inverse=True)
        self._add_examples(entries["row"][runs], group)
        step = max(MATRIX_CELLS // len(self._splits), 1)
        for start in range(0, int(group[-1]) + 1 if len(group) else 0, step):
            first, last = np.searchsorted(group, [start, start + step])
            self._add_groups(group[first:last] - start, splits[runs[first:last]], counts[first:last])

    def _add_groups(
        self, group: npt.NDArray[np.intp], splits: npt.NDArray[np.intp], counts: npt.NDArray[np.int64]
    ) -> None:
        """Counts rows that are in several splits, given how many of each group of equal rows are in each split."""
        rows = np.zeros((int(group[-1]) + 1, len(self._splits)))
        rows[group, splits] = counts
        found = (rows > 0).astype(np.float64)
        self._distinct += len(rows)
        self._pair_distinct += (found.T @ found).astype(np.int64)
        self._pair_rows += (rows.T @ found).astype(np.int64)

    def _add_examples(self, rows: npt.NDArray[np.uint64], group: npt.NDArray[np.intp]) -> None:
        for number in range(min(EXAMPLES - len(self._examples), int(group[-1]) + 1 if len(group) else 0)):
            self._examples.append(tuple(self._place(row) for row in rows[group == number].tolist()))

    def _shard_of(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        return np.searchsorted(self._starts, rows.astype(np.int64), side="right") - 1

    def _place(self, row: int) -> Place:
        shard = int(self._shard_of(np.array(row)))
        return Place(file=self._shards[shard].file, row=row - int(self._starts[shard]))

    def leaks(self, features: tuple[str, ...]) -> Leaks:
        """What was found in all buckets."""
        pairs = tuple(
            SharedRows(
                splits=(self._splits[one], self._splits[other]),
                distinct=int(self._pair_distinct[one, other]),
                rows=(int(self._pair_rows[one, other]), int(self._pair_rows[other, one])),
            )
            for one, other in itertools.combinations(range(len(self._splits)), 2)
            if self._pair_distinct[one, other]
        )
        return Leaks(
            features=features,
            rows=int(self._starts[-1]),
            distinct=self._distinct,
            pairs=pairs,
            examples=tuple(self._examples),
        )


def show_leaks(console: Console, leaks: Leaks) -> None:
    """Shows how many rows each two splits share, and some of them."""
    compared = f"{leaks.rows:,} rows compared by {', '.join(leaks.features)}"
    if not leaks.distinct:
        console.print(f"No row is in more than one split: {compared}", highlight=False)
        return
    console.print(f"{leaks.distinct:,} different rows are in more than one split: {compared}\n", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("splits")
    for heading in ("different rows in both", "rows of the first", "rows of the second"):
        table.add_column(heading, justify="right")
    for pair in leaks.pairs:
        table.add_row(" and ".join(pair.splits), f"{pair.distinct:,}", *(f"{count:,}" for count in pair.rows))
    console.print(table)
    console.print("\nExamples (shard, row):\n", style="bold")
    for places in leaks.examples:
        shown = ", ".join(f"{place.file} {place.row}" for place in places)
        console.print(f"  {shown}", highlight=False, markup=False, soft_wrap=True)
