"""ArrayRecord: a file for each shard whose records are `tf.train.Example`s of one row; Grain reads them at random."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from array_record.python.array_record_module import ArrayRecordWriter

from loaders.format.decode import Columns
from loaders.format.encode import encode_records, encode_variable_records
from loaders.format.manifest import Manifest
from loaders.format.record_layout import FOOTER_BYTES, HEADER_BYTES, record_layout
from loaders.format.spec import FeatureSpec, is_variable
from pipelines.exports.protocol import ExportPiece, Target, Written, as_numpy
from pipelines.publish import tfds
from pipelines.reading.shard_reader import to_ragged

GROUP_OF_ONE = "group_size:1"
"""Each record is compressed by itself, so that one row is read without those beside it."""

TEMPLATE = "{SPLIT}/{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}"


class ArrayRecord(Target):
    """Records as `layout: interchange` has them, without the frame of a TFRecord."""

    def write(
        self, piece: ExportPiece, features: Sequence[FeatureSpec], batches: Iterable[Columns], directory: str
    ) -> None:
        """Writes one file."""
        os.mkdir(os.path.join(directory, piece.split))
        writer = ArrayRecordWriter(os.path.join(directory, piece.split, f"{piece.name}.array_record"), GROUP_OF_ONE)
        for columns in batches:
            for frame in _frames(features, columns):
                writer.write(frame[HEADER_BYTES:-FOOTER_BYTES])
        writer.close()

    def describe(
        self, manifest: Manifest, pieces: Sequence[ExportPiece], files: Mapping[str, Written]
    ) -> Mapping[str, bytes]:
        """What TensorFlow Datasets needs to open it."""
        rows: dict[str, list[int]] = {}
        for piece in pieces:
            rows.setdefault(piece.split, []).append(piece.stop - piece.start)
        return tfds.describe(manifest, {split: (TEMPLATE, found) for split, found in rows.items()}, "array_record")


def _frames(features: Sequence[FeatureSpec], columns: Columns) -> Iterator[bytes]:
    if not is_variable(features):
        layout = record_layout(tuple(features), rows=1, rows_per_record=1)
        yield from (frame.tobytes() for frame in encode_records(layout, columns))
        return
    given = {spec.name: columns[spec.name] for spec in features} | {
        spec.name: to_ragged(spec, columns[spec.name]) if spec.ragged else as_numpy(columns[spec.name], spec)
        for spec in features
        if spec.variable
    }
    yield from encode_variable_records(features, given, rows=1, rows_per_record=1)


TARGET = ArrayRecord()
