"""Parquet: a file for each shard, which pandas, polars, DuckDB, Spark and Hugging Face's `datasets` read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import pyarrow.parquet as pq

from loaders.format import arrow, names
from loaders.format.decode import Columns
from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec
from pipelines.exports.protocol import ExportPiece, Target, Written
from pipelines.publish import croissant


class Parquet(Target):
    """Columns as `loaders.format.arrow.schema` has them; a row group holds about 8 MiB."""

    digests: ClassVar[bool] = True

    def write(
        self, piece: ExportPiece, features: Sequence[FeatureSpec], batches: Iterable[Columns], directory: str
    ) -> None:
        """Writes one file."""
        os.mkdir(os.path.join(directory, piece.split))
        path = os.path.join(directory, piece.split, f"{piece.name}.parquet")
        rows = arrow.stream(features, batches)
        with pq.ParquetWriter(path, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(batch)

    def describe(
        self, manifest: Manifest, pieces: Sequence[ExportPiece], files: Mapping[str, Written]
    ) -> Mapping[str, bytes]:
        """What MLCommons' `mlcroissant` needs to read it."""
        digests = {path: file.sha256 for path, file in files.items()}
        return {names.CROISSANT: croissant.describe(manifest, "Parquet", croissant.PARQUET, digests)}


TARGET = Parquet()
