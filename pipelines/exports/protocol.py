"""What a format of an export does, and what it is given: a piece of a split, and the columns of its rows."""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from loaders.format.decode import Columns
from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportPiece:
    """Rows of a split that one task writes."""

    split: str
    number: int  # which piece of the split it is
    count: int  # how many pieces the split has
    start: int  # of its first row in the split
    stop: int  # after that of its last row
    rows: int  # those of the split

    @property
    def name(self) -> str:
        """Its name, as the shards of a data set have theirs."""
        return f"{self.split}-{self.number:05d}-of-{self.count:05d}"


class Written(NamedTuple):
    """A file that was written: its size, and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


class Target(abc.ABC):
    """A format. An instance is pickled, and has no state."""

    digests: ClassVar[bool] = False  # whether it describes the files by their size and SHA-256

    def unfit(self, spec: FeatureSpec) -> str:
        """What of a feature the format cannot hold; "" where it can."""
        return ""

    def pieces(self, manifest: Manifest, split: str) -> list[ExportPiece]:
        """The pieces of a split, one for each shard that has rows unless a format cuts otherwise."""
        return cut(split, [shard.rows for shard in manifest.shards(split) if shard.rows])

    @abc.abstractmethod
    def write(
        self, piece: ExportPiece, features: Sequence[FeatureSpec], batches: Iterable[Columns], directory: str
    ) -> None:
        """Writes a piece of the features, which are sorted by name.

        `batches` are columns of its rows, some at a time, as `shard_reader.read_shard` has them. The directory is
        local, and empty: each file is written as it is to lie in the export.
        """

    def describe(
        self, manifest: Manifest, pieces: Sequence[ExportPiece], files: Mapping[str, Written]
    ) -> Mapping[str, bytes]:
        """The files, by name, that say what all pieces of a data set are, once these are there.

        If they are asked for (`digests`), `files` says what each file is, by its path.
        """
        return {}


def cut(split: str, sizes: Sequence[int]) -> list[ExportPiece]:
    """Pieces of so many rows each, one after the other."""
    ends = list(itertools.accumulate(sizes))
    return [
        ExportPiece(split=split, number=number, count=len(ends), start=end - size, stop=end, rows=ends[-1])
        for number, (end, size) in enumerate(zip(ends, sizes, strict=True))
    ]


def as_numpy(column: npt.NDArray[Any], spec: FeatureSpec) -> npt.NDArray[Any]:
    """A column as NumPy has it in a file: text and bytes as `S`, times by their unit."""
    if spec.dtype == "string":
        return np.array(column.tolist(), np.bytes_)
    return column.view(spec.unit) if spec.unit else column


def without_ragged(spec: FeatureSpec, instead: str) -> str:
    """Why a format of arrays does not hold a feature: rows of any length."""
    return f"rows of one shape; found rows of any length (export to {instead})" if spec.ragged else ""
