"""WebDataset: a tar file for each shard, with a member `NUMBER.FEATURE.npy` for each feature of each row."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Sequence

import numpy as np

from loaders.format.decode import Columns
from loaders.format.spec import FeatureSpec
from pipelines.exports.protocol import ExportPiece, Target, as_numpy
from pipelines.reading.shard_reader import to_ragged


class WebDataset(Target):
    """Rows by their number in the split; `WebDataset(…).decode()` makes arrays of them again."""

    def unfit(self, spec: FeatureSpec) -> str:
        """A name with a slash, which would be taken for a directory."""
        return "a name without a slash; found one" if "/" in spec.name else ""

    def write(
        self, piece: ExportPiece, features: Sequence[FeatureSpec], batches: Iterable[Columns], directory: str
    ) -> None:
        """Writes one file."""
        os.mkdir(os.path.join(directory, piece.split))
        number = piece.start
        with tarfile.open(os.path.join(directory, piece.split, f"{piece.name}.tar"), "w") as tar:
            for columns in batches:
                rows = [_rows(spec, columns) for spec in features]
                for row in zip(*rows, strict=True):
                    for spec, value in zip(features, row, strict=True):
                        _add(tar, f"{number:012d}.{spec.name}.npy", value)
                    number += 1


def _rows(spec: FeatureSpec, columns: Columns) -> Iterable[object]:
    column = columns[spec.name]
    if not spec.ragged:
        return as_numpy(column, spec)
    found = to_ragged(spec, column)
    return np.split(found.values, np.cumsum(found.lengths)[:-1])


def _add(tar: tarfile.TarFile, name: str, value: object) -> None:
    file = io.BytesIO()
    np.save(file, np.asarray(value), allow_pickle=False)
    member = tarfile.TarInfo(name)
    member.size = file.tell()
    file.seek(0)
    tar.addfile(member, file)


TARGET = WebDataset()
