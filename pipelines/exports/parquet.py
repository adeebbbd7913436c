"""Parquet: a file for each shard, which pandas, polars, DuckDB, Spark and Hugging Face's `datasets` read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import pyarrow.parquet as pq

from loaders.format import arrow
from loaders.format.records import Columns
from loaders.format.spec import FeatureSpec
from pipelines.exports.protocol import Piece, Target


class Parquet(Target):
    """Columns as `loaders.format.arrow.schema` has them; a row group holds about 8 MiB."""

    def write(self, piece: Piece, features: Sequence[FeatureSpec], batches: Iterable[Columns], directory: str) -> None:
        """Writes one file."""
        os.mkdir(os.path.join(directory, piece.split))
        path = os.path.join(directory, piece.split, f"{piece.name}.parquet")
        rows = arrow.stream(features, batches)
        with pq.ParquetWriter(path, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(batch)


TARGET = Parquet()
