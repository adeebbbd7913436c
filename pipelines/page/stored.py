"""A sample of the rows of a finished data set: the first ones of some shards, whose rows are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest, Shard
from loaders.format.records import RecordError, decoded, values
from loaders.format.spec import FeatureSpec, is_variable
from loaders.format.stream import read_frames, read_variable
from pipelines.errors import DataError, Problem
from pipelines.reading.batches import Columns, Ragged
from pipelines.storage import files

ROWS = 2048
BYTES = 4 * 2**20
SHARDS = 8


def sample_shards(root: str, manifest: Manifest, split: str, *, rows: int = ROWS) -> Columns:
    """Some rows of a split: at most `rows`, and about `BYTES`, from at most `SHARDS` shards.

    Returns:
        For each feature of the shards `[rows, *shape]`; `Ragged` where rows have lengths of their own, and strings as
        an array of bytes objects.

    Raises:
        DataError: If a shard is not as the manifest says.
        OSError: If a shard cannot be read.
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


def _first_rows(root: str, manifest: Manifest, shard: Shard, rows: int) -> dict[str, npt.NDArray[Any]]:
    path = files.join(root, shard.file)
    read = _parsed if is_variable(manifest.features) else _frames
    try:
        with files.open_input(path) as file:
            pieces = read(file, manifest, shard, rows)
    except RecordError as error:
        expected = f"in record {error.record} {error.expected}"
        raise DataError(str(Problem(path=path, expected=expected, found=error.found))) from error
    return {name: np.concatenate([piece[name] for piece in pieces])[:rows] for name in pieces[0]}


def _frames(file: BinaryIO, manifest: Manifest, shard: Shard, rows: int) -> list[dict[str, npt.NDArray[Any]]]:
    size = manifest.rows_per_record
    whole = min(-(-rows // size) * size, shard.rows)
    return [
        {spec.name: decoded(values(frames, layout, spec), spec) for spec in manifest.features}
        for layout, frames in read_frames(file.read, manifest.features, rows=whole, rows_per_record=size)
    ]


def _parsed(file: BinaryIO, manifest: Manifest, shard: Shard, rows: int) -> list[dict[str, npt.NDArray[Any]]]:
    found, names, size = [], frozenset(spec.name for spec in manifest.features), manifest.rows_per_record
    for _, columns in read_variable(file.read, manifest.features, names=names, shard=shard, rows_per_record=size):
        found.append(columns)
        if len(found) * size >= rows:
            break
    return found


def _joined(spec: FeatureSpec, pieces: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any] | Ragged:
    joined = np.concatenate(pieces)
    if not spec.ragged:
        return joined
    steps = np.frombuffer(b"".join(joined), spec.numpy_dtype).reshape(-1, *spec.inner_shape)
    step_bytes = spec.row_elements * spec.numpy_dtype.itemsize
    return Ragged(values=steps, lengths=np.array([len(row) // step_bytes for row in joined], np.int64))
