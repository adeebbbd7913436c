"""Hashes of the rows of shards, of 128 bits each: equal where the compared features are equal bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest, Shard
from loaders.format.spec import FeatureSpec
from loaders.order import hashing
from pipelines import counters
from pipelines.maintain.buckets import HashBuckets
from pipelines.reading.stored import read_shard

HASHED_ROWS = 4096
"""Rows hashed together: their words and hashes stay in the cache."""

LANE_KEYS = (0x243F6A8885A308D3, 0xB7E151628AED2A6B)
"""Where the two halves of a hash begin, from the digits of pi and of e."""

DIGEST_BYTES = 1024
"""The width from which rows are hashed by BLAKE2b one by one. Measured on one core: of rows of 136 bytes 4,200,000 a
second in words and 680,000 by BLAKE2b, of 1,024 bytes 560,000 either way; a wide row has as many steps as words."""


def add_hashes(
    buckets: HashBuckets, root: str, manifest: Manifest, compared: Sequence[FeatureSpec], *, stage: str
) -> None:
    """Adds the hashes of all rows of a data set to buckets; errors are those of `hash_shard`."""
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        for hashes in hash_shard(root, shard, manifest, compared):
            buckets.add(hashes)
        counters.advance(stage, rows=shard.rows, size=shard.bytes)


def hash_shard(
    root: str, shard: Shard, manifest: Manifest, compared: Sequence[FeatureSpec]
) -> Iterator[npt.NDArray[np.uint64]]:
    """The hashes of a shard's rows, `[rows, 2]`, some at a time.

    Raises:
        DataError: If the shard is not as the manifest says.
        OSError: If it cannot be read.
    """
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

    Wide rows are hashed by BLAKE2b, others by two chains of splitmix64. The chains are those of `order.derive`, over
    words of 8 bytes, the last one of each piece filled up with 0. Each step is a bijection of the word, so rows that
    differ in one word never have equal hashes.
    """
    if sum(piece.shape[1] for piece in pieces) >= DIGEST_BYTES:
        whole = np.concatenate(pieces, axis=1)
        return np.stack([_digest([row.data]) for row in whole])
    hashes = np.repeat(np.array(LANE_KEYS, dtype=np.uint64)[:, None], len(pieces[0]), axis=1)
    for piece in pieces:
        for word in _as_words(piece):
            hashes = hashing.derive_each(hashes, word)
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
