"""TFRecord frames of `tf.train.Example` records: where everything stands in them, and their checksums."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import google_crc32c
import numpy as np
import numpy.typing as npt

from loaders.format import wire
from loaders.format.spec import Encoding, FeatureSpec

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]

HEADER_BYTES = 12  # the data's length, 8 bytes, and its masked CRC, 4 bytes
FOOTER_BYTES = 4  # the data's masked CRC


def masked_crc32c(data: bytes) -> int:
    """The masked CRC-32C that TFRecord frames carry: `((crc >> 15) | (crc << 17)) + 0xa282ead8`, in 32 bits."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def masked(crc: U32) -> U32:
    """Checksums as TFRecord frames hold them: `((crc >> 15) | (crc << 17)) + 0xa282ead8` in 32 bits."""
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


def crc32c(rows: U8) -> U32:
    """The CRC-32C of each row: uint8 of shape [rows, bytes], 4 at least and together; to uint32 of shape [rows]."""
    # Each is a view: to copy them would take longer than the checksums.
    return np.fromiter(map(google_crc32c.value, rows), np.uint32, len(rows))


def frame(data: bytes) -> bytes:
    """A record as it stands in a file: its length, the checksum of that, the data, and the checksum of the data."""
    return header(len(data)) + data + masked_crc32c(data).to_bytes(FOOTER_BYTES, "little")


def header(size: int) -> bytes:
    """What comes before the data of a record of so many bytes."""
    length = size.to_bytes(8, "little")
    return length + masked_crc32c(length).to_bytes(4, "little")


@dataclasses.dataclass(frozen=True)
class RecordLayout:
    """Where everything stands in the frame of a record of a fixed number of rows.

    Every record of the same number of rows has the same size and differs from another only in its values, because
    an int64 of an `int64_list` is written as a varint of the full ten bytes (which every protobuf parser reads).

    Attributes:
        features: The features, sorted by name.
        rows: How many rows the record holds.
        rows_per_record: How many a full record holds; decides the encoding.
        fixed: The pieces of the frame that do not change: (offset, bytes).
        values: For each feature, the offset and the number of bytes of its values.
        frame_bytes: The size of the frame.
    """

    features: tuple[FeatureSpec, ...]
    rows: int
    rows_per_record: int
    fixed: tuple[tuple[int, bytes], ...]
    values: tuple[tuple[int, int], ...]
    frame_bytes: int

    def place(self, name: str) -> tuple[int, int]:
        """The offset and the number of bytes of a feature's values."""
        return self._places[name]

    @functools.cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        return {spec.name: place for spec, place in zip(self.features, self.values, strict=True)}


def element_bytes(spec: FeatureSpec, encoding: Encoding) -> int:
    """The bytes of one element of a fixed feature in a record."""
    return wire.VARINT64_BYTES if encoding == "int64_list" else spec.numpy_dtype.itemsize


@functools.lru_cache(maxsize=64)
def record_layout(features: tuple[FeatureSpec, ...], *, rows: int, rows_per_record: int) -> RecordLayout:
    """The layout of a record of `rows` rows, at least 1, of features sorted by name, none of which is variable."""
    entries: list[bytes | int] = []
    for spec in features:
        encoding = spec.encoding(rows_per_record)
        values = wire.field(wire.LIST_VALUE, rows * spec.row_elements * element_bytes(spec, encoding))
        entry_value = wire.field(wire.ENTRY_VALUE, *wire.field(wire.LIST_TAG[encoding], *values))
        entries += wire.field(wire.MAP_ENTRY, *wire.field(wire.ENTRY_KEY, spec.name.encode()), *entry_value)
    parts = wire.field(wire.EXAMPLE_FEATURES, *entries)
    size = sum(part if isinstance(part, int) else len(part) for part in parts)
    fixed, places, offset = [(0, header(size))], [], HEADER_BYTES
    for part in parts:
        if isinstance(part, int):
            places.append((offset, part))
            offset += part
        else:
            fixed.append((offset, part))
            offset += len(part)
    return RecordLayout(features, rows, rows_per_record, tuple(fixed), tuple(places), offset + FOOTER_BYTES)


def record_bytes(features: Sequence[FeatureSpec], rows_per_record: int, *, rows: int | None = None) -> int:
    """The size in its file of a full record, or of one of `rows` rows: what `record_layout` finds, without a layout."""
    count, entries = rows_per_record if rows is None else rows, 0
    for spec in features:
        values = count * spec.row_elements * element_bytes(spec, spec.encoding(rows_per_record))
        value = wire.field_bytes(wire.field_bytes(wire.field_bytes(values)))
        entries += wire.field_bytes(wire.field_bytes(len(spec.name.encode())) + value)
    return HEADER_BYTES + wire.field_bytes(entries) + FOOTER_BYTES
