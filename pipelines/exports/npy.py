"""NumPy's own files: one for each feature of each shard, named as `npyflow build` takes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

from loaders.format.decode import Columns
from loaders.format.spec import FeatureSpec
from pipelines.exports.protocol import ExportPiece, Target, as_numpy, without_ragged


class Npy(Target):
    """`SPLIT/FEATURE-00000.npy`: rows in the order of the numbers. A shard is in memory at a time."""

    def unfit(self, spec: FeatureSpec) -> str:
        """Rows of any length."""
        return without_ragged(spec, "parquet, arrayrecord or webdataset")

    def write(
        self, piece: ExportPiece, features: Sequence[FeatureSpec], batches: Iterable[Columns], directory: str
    ) -> None:
        """Writes one file for each feature."""
        found = list(batches)
        for spec in features:
            path = os.path.join(directory, piece.split, f"{spec.name}-{piece.number:05d}.npy")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            np.save(path, as_numpy(np.concatenate([columns[spec.name] for columns in found]), spec), allow_pickle=False)


TARGET = Npy()
