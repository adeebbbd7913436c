"""MDS: a file for each shard, and an index for each split, which MosaicML's `StreamingDataset` reads.

The layout is written here, as the package that defines it needs PyTorch, clients of four clouds and an older NumPy.
A file is the number of its rows, where each row begins and the last ends (uint32), a description as JSON, and the rows;
a row is the sizes (uint32) of those of its values that vary in size, and its values, by the names of the features.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from loaders.format.decode import Columns
from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec
from pipelines.errors import DataError, Problem
from pipelines.exports.protocol import ExportPiece, Target, Written

INDEX = "index.json"
U32 = np.dtype("<u4")
LIMIT_BYTES = 2**32
"""Files are smaller, as they say where rows begin in 32 bits."""

_STORED = {"bool": "uint8", "complex64": "float32", "complex128": "float64"}
"""How values are stored that the format has no type for; a complex number is two, the real part first."""


class Mds(Target):
    """Numbers as scalars and arrays, text as bytes, ragged rows as arrays that say their shape."""

    digests: ClassVar[bool] = True

    def unfit(self, spec: FeatureSpec) -> str:
        """Several texts a row."""
        several = "numbers, or one text a row; found several texts or bytes a row (export to parquet)"
        return several if spec.dtype == "string" and spec.shape else ""

    def write(
        self, piece: ExportPiece, features: Sequence[FeatureSpec], batches: Iterable[Columns], directory: str
    ) -> None:
        """Writes one file; a DataError where it would be too large."""
        os.mkdir(os.path.join(directory, piece.split))
        said, rows = json.dumps(_description(features), sort_keys=True).encode(), piece.stop - piece.start
        ends = [U32.itemsize * (rows + 2) + len(said)]
        with open(os.path.join(directory, _path(piece)), "wb") as file:
            file.seek(ends[0])
            for columns in batches:
                for row in _rows(features, columns):
                    file.write(row)
                    ends.append(ends[-1] + len(row))
            if ends[-1] >= LIMIT_BYTES:
                expected = f"files of less than {LIMIT_BYTES:,} bytes, as MDS has them (shard_bytes of the build)"
                raise DataError(str(Problem(path=_path(piece), expected=expected, found=f"{ends[-1]:,} bytes")))
            file.seek(0)
            file.write(np.array([rows, *ends], U32).tobytes() + said)

    def describe(
        self, manifest: Manifest, pieces: Sequence[ExportPiece], files: Mapping[str, Written]
    ) -> Mapping[str, bytes]:
        """The index of each split."""
        shards: dict[str, list[dict[str, Any]]] = {}
        for piece in pieces:
            file, name = files[_path(piece)], os.path.basename(_path(piece))
            data = {"basename": name, "bytes": file.bytes, "hashes": {"sha256": file.sha256}}
            shard = {"samples": piece.stop - piece.start, "raw_data": data, "zip_data": None}
            shards.setdefault(piece.split, []).append(_description(manifest.features) | shard)
        return {
            f"{split}/{INDEX}": json.dumps({"version": 2, "shards": found}, sort_keys=True).encode()
            for split, found in shards.items()
        }


def _path(piece: ExportPiece) -> str:
    return f"{piece.split}/{piece.name}.mds"


def _description(features: Sequence[FeatureSpec]) -> dict[str, Any]:
    return {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": ["sha256"],
        "size_limit": None,
        "column_names": [spec.name for spec in features],
        "column_encodings": [_encoding(spec) for spec in features],
        "column_sizes": [None if spec.variable else spec.row_bytes for spec in features],
    }


def _encoding(spec: FeatureSpec) -> str:
    if spec.dtype == "string":
        return "bytes"
    dtype, shape = _STORED.get(spec.dtype, spec.dtype), _shape(spec)
    if spec.ragged:
        return f"ndarray:{dtype}"
    return f"ndarray:{dtype}:{','.join(map(str, shape))}" if shape else dtype


def _shape(spec: FeatureSpec) -> tuple[int, ...]:
    """The shape of a row as it is stored, without the axis that varies."""
    return (*spec.inner_shape, 2) if spec.dtype.startswith("complex") else spec.inner_shape


def _rows(features: Sequence[FeatureSpec], columns: Columns) -> Iterator[bytes]:
    varies = [place for place, spec in enumerate(features) if spec.variable]
    for row in zip(*(_cells(spec, columns[spec.name]) for spec in features), strict=True):
        sizes = np.array([len(row[place]) for place in varies], U32)
        yield sizes.tobytes() + b"".join(row)


def _cells(spec: FeatureSpec, column: npt.NDArray[Any]) -> Iterable[bytes]:
    if spec.ragged:
        return (_with_shape((len(value) // spec.step_bytes, *_shape(spec)), value) for value in column)
    if spec.dtype == "string":
        return column.tolist()  # type: ignore[no-any-return]
    data, size = column.tobytes(), spec.row_bytes
    return (data[start : start + size] for start in range(0, len(data), size))


def _with_shape(shape: tuple[int, ...], value: bytes) -> bytes:
    """An array after its shape: a byte for the number of axes and the width of their sizes, and these."""
    sizes = np.array(shape, np.uint64)
    width = np.min_scalar_type(sizes.max())
    kind = width.itemsize.bit_length() - 1
    return bytes([len(shape) << 2 | kind]) + sizes.astype(width.newbyteorder("<")).tobytes() + value


TARGET = Mds()
