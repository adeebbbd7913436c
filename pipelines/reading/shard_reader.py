"""The rows of a finished data set's shards, each shard from its beginning, checked against its records' checksums."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from loaders.format.decode import Columns, RecordError, check_frames, decoded, values
from loaders.format.manifest import Manifest, Shard
from loaders.format.spec import FeatureSpec, is_variable
from loaders.format.stream import read_frames, read_variable
from pipelines.errors import DataError, Problem
from pipelines.reading.batches import Ragged
from pipelines.storage import files


def read_shard(
    root: str, manifest: Manifest, shard: Shard, *, rows: int | None = None, features: Collection[str] | None = None
) -> Iterator[Columns]:
    """The columns of a shard's rows, some at a time: of so many `rows` at least, and some `features`, or of all.

    Yields:
        For each feature `[rows, *shape]`; of ragged rows the bytes of each, and strings as objects.

    Raises:
        DataError: If the shard is not as the manifest says.
        OSError: If it cannot be read.
    """
    read = _parsed if is_variable(manifest.features) else _frames
    specs = [spec for spec in manifest.features if features is None or spec.name in features]
    path = files.join(root, shard.file)
    try:
        with files.open_input(path) as file:
            yield from read(file, manifest, shard, specs, shard.rows if rows is None else min(rows, shard.rows))
    except RecordError as error:
        expected = f"in record {error.record} {error.expected}"
        raise DataError(str(Problem(path=path, expected=expected, found=error.found))) from error


def _frames(
    file: BinaryIO, manifest: Manifest, shard: Shard, specs: Sequence[FeatureSpec], rows: int
) -> Iterator[Columns]:
    size, first = manifest.rows_per_record, 0
    whole = min(-(-rows // size) * size, shard.rows)
    for layout, frames in read_frames(file.read, manifest.features, rows=whole, rows_per_record=size):
        check_frames(frames, layout, first=first)
        first += len(frames)
        yield {spec.name: decoded(values(frames, layout, spec), spec) for spec in specs}


def _parsed(
    file: BinaryIO, manifest: Manifest, shard: Shard, specs: Sequence[FeatureSpec], rows: int
) -> Iterator[Columns]:
    names, size = frozenset(spec.name for spec in specs), manifest.rows_per_record
    records = read_variable(file.read, manifest.features, names=names, shard=shard, rows_per_record=size)
    for _, (_, columns) in zip(range(-(-rows // size)), records, strict=False):
        yield columns


def to_ragged(spec: FeatureSpec, column: npt.NDArray[Any]) -> Ragged:
    """Rows of a ragged feature, of which a column has the bytes of each, as values and lengths."""
    steps = np.frombuffer(b"".join(column), spec.numpy_dtype).reshape(-1, *spec.inner_shape)
    return Ragged(values=steps, lengths=np.array([len(row) // spec.step_bytes for row in column], np.int64))
