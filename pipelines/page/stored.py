"""A sample of the rows of a finished data set: the first ones of some shards, whose rows are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest, Shard
from loaders.format.spec import FeatureSpec
from pipelines.reading.batches import Columns, Ragged
from pipelines.reading.stored import read_shard, to_ragged

ROWS = 2048
BYTES = 4 * 2**20
SHARDS = 8


def sample_shards(root: str, manifest: Manifest, split: str, *, rows: int = ROWS) -> Columns:
    """Some rows of a split: at most `rows`, and about `BYTES`, from at most `SHARDS` shards.

    Each feature of the shards is `[rows, *shape]`; `Ragged` where rows have lengths of their own, and strings as an
    array of bytes objects. Errors are those of `read_shard`.
    """
    shards = [shard for shard in manifest.shards(split) if shard.rows]
    total = sum(shard.rows for shard in shards)
    if not total:
        return {}
    row_bytes = max(sum(shard.bytes for shard in shards) // total, 1)
    wanted = max(min(rows, BYTES // row_bytes), 1)
    chosen = [shards[number] for number in sorted({place * len(shards) // SHARDS for place in range(SHARDS)})]
    each = -(-wanted // len(chosen))
    pieces = [_first_rows(root, manifest, shard, min(each, shard.rows)) for shard in chosen]
    return {spec.name: _joined(spec, [piece[spec.name] for piece in pieces])[:wanted] for spec in manifest.features}


def _first_rows(root: str, manifest: Manifest, shard: Shard, rows: int) -> Columns:
    pieces = list(read_shard(root, manifest, shard, rows=rows))
    return {name: np.concatenate([piece[name] for piece in pieces])[:rows] for name in pieces[0]}


def _joined(spec: FeatureSpec, pieces: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any] | Ragged:
    joined = np.concatenate(pieces)
    return to_ragged(spec, joined) if spec.ragged else joined
