"""Zarr: a group for each split, `SPLIT.zarr`, with an array for each feature."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import zarr

from loaders.format.decode import Columns
from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec
from pipelines.exports.protocol import ExportPiece, Target, as_numpy, cut, without_ragged

CHUNK_BYTES = 2**20
"""About how large a chunk is before it is compressed: one is read at a time."""


class Zarr(Target):
    """Pieces end where chunks do, so no two tasks write one chunk; each writes the same metadata."""

    def unfit(self, spec: FeatureSpec) -> str:
        """Rows of any length, and text, for which version 3 of the format has no type yet."""
        text = "numbers; found text or bytes (export to parquet)" if spec.dtype == "string" else ""
        return text or without_ragged(spec, "parquet, arrayrecord or webdataset")

    def pieces(self, manifest: Manifest, split: str) -> list[ExportPiece]:
        """About as many as there are shards, of whole chunks of all arrays."""
        rows = manifest.rows(split)
        most = max([1, *(shard.rows for shard in manifest.shards(split))])
        step = max(min(_chunk_rows(spec), _power_of_two(most)) for spec in manifest.features)
        step *= most // step
        return cut(split, [min(step, rows - start) for start in range(0, rows, step)])

    def write(
        self, piece: ExportPiece, features: Sequence[FeatureSpec], batches: Iterable[Columns], directory: str
    ) -> None:
        """Writes the chunks of a piece, and the metadata."""
        group = zarr.open_group(os.path.join(directory, f"{piece.split}.zarr"), mode="w")
        found, step = list(batches), piece.start // piece.number if piece.number else piece.stop
        for spec in features:
            values = np.concatenate([as_numpy(columns[spec.name], spec) for columns in found])
            array = group.create_array(
                spec.name,
                shape=(piece.rows, *spec.inner_shape),
                chunks=(min(_chunk_rows(spec), step), *spec.inner_shape),
                dtype=values.dtype,
                attributes={"role": spec.role} | ({"class_names": list(spec.class_names)} if spec.class_names else {}),
            )
            array[piece.start : piece.stop] = values


def _chunk_rows(spec: FeatureSpec) -> int:
    """A power of two, so that the largest of several is a multiple of each."""
    return _power_of_two(max(1, CHUNK_BYTES // spec.row_bytes))


def _power_of_two(number: int) -> int:
    """The largest one that is not larger."""
    return 1 << (number.bit_length() - 1)


TARGET = Zarr()
