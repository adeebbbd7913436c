"""How a split is cut into the chunks and windows that an epoch's order permutes. Pure NumPy, shared by every reader."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.manifest import Manifest
from loaders.spec import FeatureSpec

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
    """

    rows: I64
    rows_per_record: int
    records: int
    starts: I64

    @property
    def size(self) -> int:
        """How many chunks there are."""
        return int(self.starts[-1])

    @classmethod
    def of(cls, manifest: Manifest, split: str) -> Chunks:
        """The chunks of a split.

        Raises:
            ManifestError: If there is no such split.
        """
        rows = np.array([shard.rows for shard in manifest.shards(split)], dtype=np.int64)
        records = max(1, CHUNK_BYTES // manifest.record_bytes)
        counts = -(-rows // (records * manifest.rows_per_record))
        return cls(
            rows=rows,
            rows_per_record=manifest.rows_per_record,
            records=records,
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )

    def locate(self, index: npt.NDArray[Any]) -> tuple[I64, I64, I64]:
        """Where chunks lie.

        Args:
            index: Numbers of chunks, any shape.

        Returns:
            The shard, the first record in it, and the number of records: int64, each the shape of `index`.
        """
        shard = np.searchsorted(self.starts, index, side="right") - 1
        first = (index - self.starts[shard]) * self.records
        in_shard = -(-self.rows[shard] // self.rows_per_record)
        return shard, first, np.minimum(self.records, in_shard - first)


def window_rows(features: Iterable[FeatureSpec]) -> int:
    """How many rows a window holds; `features` are all those of the data set, whichever are read."""
    return max(1, WINDOW_BYTES // sum(feature.row_bytes for feature in features))
