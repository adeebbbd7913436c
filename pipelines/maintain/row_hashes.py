"""Hashes of the rows of data sets, of 128 bits each: equal where the compared features are equal bit for bit.

They are sorted into files by their first bits, so that equal ones are found in bounded memory.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest, Shard
from loaders.format.spec import FeatureSpec
from loaders.order import hashing
from pipelines import counters
from pipelines.reading.shard_reader import read_shard
from pipelines.storage.temporary import temporary_directory

BUCKET_ROWS = 2**18
"""About how many rows a bucket holds: sorting them takes some 40 MiB, whatever the data set's size."""

ENTRY = np.dtype([("first", "<u8"), ("second", "<u8"), ("row", "<u8")])
"""What is kept of a row: its hash, of 128 bits, and its number in the data set."""

HASHED_ROWS = 4096
"""Rows hashed together: their words and hashes stay in the cache."""

LANE_KEYS = (0x243F6A8885A308D3, 0xB7E151628AED2A6B)
"""Where the two halves of a hash begin, from the digits of pi and of e."""

DIGEST_BYTES = 1024
"""The width from which rows are hashed by BLAKE2b one by one. Measured on one core: of rows of 136 bytes 4,200,000 a
second in words and 680,000 by BLAKE2b, of 1,024 bytes 560,000 either way; a wide row has as many steps as words."""


def rows_by_hash(*data_sets: tuple[str, Manifest, Sequence[FeatureSpec]], stage: str) -> Iterator[npt.NDArray[Any]]:
    """Yields an `ENTRY` for each row of data sets, those of one hash together; errors are those of `read_shard`.

    Rows are numbered through the data sets, each a root, what is there, and the features that are compared. The hashes
    lie in a temporary directory, 24 bytes a row.
    """
    rows = sum(manifest.rows(split) for _, manifest, _ in data_sets for split in manifest.splits)
    with temporary_directory(stage) as directory:
        buckets = HashBuckets(directory, rows)
        for root, manifest, compared in data_sets:
            for shard in (shard for shards in manifest.splits.values() for shard in shards):
                for hashes in hash_shard(root, shard, manifest, compared):
                    buckets.add(hashes)
                counters.advance(stage, rows=shard.rows, size=shard.bytes)
        yield from buckets.read()


class HashBuckets:
    """Entries of rows in files of a directory, by the first bits of their hashes."""

    def __init__(self, directory: str, rows: int) -> None:
        """Makes no file yet in the directory, for so many rows as will come."""
        self._directory = directory
        self._bits = max(math.ceil(math.log2(max(rows, 1) / BUCKET_ROWS)), 0)
        self._waiting: list[npt.NDArray[Any]] = []
        self._count = self._rows = 0

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Adds the rows that come next, given their hashes, uint64 `[rows, 2]`."""
        entries = np.empty(len(hashes), dtype=ENTRY)
        entries["first"], entries["second"] = hashes[:, 0], hashes[:, 1]
        entries["row"] = np.arange(self._rows, self._rows + len(hashes))
        self._rows += len(hashes)
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


def hash_shard(
    root: str, shard: Shard, manifest: Manifest, compared: Sequence[FeatureSpec]
) -> Iterator[npt.NDArray[np.uint64]]:
    """The hashes of a shard's rows, `[rows, 2]`, some at a time; errors are those of `read_shard`."""
    for columns in read_shard(root, manifest, shard, features=[spec.name for spec in compared]):
        found = [columns[spec.name] for spec in compared]
        if any(spec.variable for spec in compared):
            rows = zip(*map(_row_bytes, compared, found), strict=True)
            yield np.stack([_digest(row) for row in rows])
            continue
        pieces = [np.ascontiguousarray(column).reshape(len(column), -1).view(np.uint8) for column in found]
        for start in range(0, len(pieces[0]), HASHED_ROWS):
            yield hash_rows([piece[start : start + HASHED_ROWS] for piece in pieces])


def hash_rows(pieces: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint64]:
    """A hash of 128 bits, uint64 `[rows, 2]`, of each row's bytes, of which each feature has uint8 `[rows, bytes]`.

    Wide rows are hashed by BLAKE2b, others by two chains of splitmix64. The chains are those of `hashing.derive`, over
    words of 8 bytes, the last one of each piece filled up with 0. Each step is a bijection of the word, so rows that
    differ in one word never have equal hashes.
    """
    if sum(piece.shape[1] for piece in pieces) >= DIGEST_BYTES:
        whole = np.concatenate(pieces, axis=1)
        return np.stack([_digest([row.data]) for row in whole])
    hashes = np.repeat(np.array(LANE_KEYS, dtype=np.uint64)[:, None], len(pieces[0]), axis=1)
    for piece in pieces:
        for word in _as_words(piece):
            hashes = hashing.derive_all(hashes, word)
    return hashes.T


def _as_words(piece: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The bytes of rows as words, `[words, rows]`, filled up with 0."""
    rows, size = piece.shape
    padded = np.zeros((rows, -(-size // 8) * 8), dtype=np.uint8)
    padded[:, :size] = piece
    return np.ascontiguousarray(padded.view("<u8").T)


def _row_bytes(spec: FeatureSpec, column: npt.NDArray[Any]) -> list[bytes]:
    """The bytes of each row; strings each begin with their length."""
    if not spec.variable:
        return [row.tobytes() for row in column]
    strings = column.reshape(len(column), -1).tolist()
    return [b"".join(len(text).to_bytes(8, "little") + text for text in row) for row in strings]


def _digest(pieces: Sequence[bytes | memoryview]) -> npt.NDArray[np.uint64]:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return np.frombuffer(digest.digest(), dtype="<u8").astype(np.uint64)
