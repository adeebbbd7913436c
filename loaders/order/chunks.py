"""How a split is cut into the chunks and windows that an epoch's order permutes. Pure NumPy, shared by every reader."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest

CHUNK_BYTES = 1 << 20
WINDOW_BYTES = 32 << 20

I64 = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunks:
    """The chunks of a split: runs of consecutive records of one shard, numbered over the shards in order.

    Attributes:
        rows: The rows of each shard, int64 of shape [shards].
        rows_per_record: How many rows a full record holds.
        records: How many records a chunk holds; the last chunk of a shard may hold fewer.
        starts: The number of each shard's first chunk, and last the count of all: int64 of shape [shards + 1].
        record_bytes: The size of a full record; None where records differ in size.
        begins, ends: The bytes of its file at which each chunk begins and ends: int64 of shape [size]. Empty where
            records have one size.
    """

    rows: I64
    rows_per_record: int
    records: int
    starts: I64
    record_bytes: int | None
    begins: I64
    ends: I64

    @property
    def size(self) -> int:
        """How many chunks there are."""
        return int(self.starts[-1])

    @classmethod
    def of(cls, manifest: Manifest, split: str) -> Chunks:
        """The chunks of a split."""
        shards = manifest.shards(split)
        rows = np.array([shard.rows for shard in shards], dtype=np.int64)
        records = chunk_records(manifest)
        counts = -(-rows // (records * manifest.rows_per_record))
        return cls(
            rows=rows,
            rows_per_record=manifest.rows_per_record,
            records=records,
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            record_bytes=manifest.record_bytes,
            begins=np.array([at for shard in shards for at in shard.offsets or ()], dtype=np.int64),
            ends=np.array(
                [at for shard in shards if shard.offsets for at in (*shard.offsets[1:], shard.bytes)], dtype=np.int64
            ),
        )

    def locate(self, index: npt.NDArray[Any]) -> tuple[I64, I64, I64]:
        """The shards of chunks, their first records in these, and how many they have: int64 of any one shape."""
        shard = np.searchsorted(self.starts, index, side="right") - 1
        first = (index - self.starts[shard]) * self.records
        in_shard = -(-self.rows[shard] // self.rows_per_record)
        return shard, first, np.minimum(self.records, in_shard - first)

    def holding(self, shard: I64, row: I64) -> I64:
        """The numbers of the chunks that hold rows, by their shards and their numbers in these: int64, any shape."""
        return self.starts[shard] + row // (self.records * self.rows_per_record)


def chunk_records(manifest: Manifest) -> int:
    """How many records a chunk holds, but for the last one of a shard."""
    return manifest.chunk_records or max(1, CHUNK_BYTES // (manifest.record_bytes or 1))


def window_rows(manifest: Manifest, split: str) -> int:
    """How many rows a window holds, whichever features are read.

    Where rows differ in size, a row counts as the mean number of bytes that the split's shards have for one.
    """
    if manifest.record_bytes is not None:
        return max(1, WINDOW_BYTES // sum(feature.row_bytes for feature in manifest.features))
    size = sum(shard.bytes for shard in manifest.shards(split))
    return max(1, WINDOW_BYTES // max(1, size // max(1, manifest.rows(split))))
