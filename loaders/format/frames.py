"""TFRecord frames of `tf.train.Example` records: where everything stands in them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import google_crc32c

from loaders.format.spec import Encoding, FeatureSpec

HEADER_BYTES = 12  # the data's length, 8 bytes, and its masked CRC, 4 bytes
FOOTER_BYTES = 4  # the data's masked CRC
VARINT64_BYTES = 10

# The field numbers and wire types of tf.train.Example (example.proto, feature.proto); all are length-delimited.
EXAMPLE_FEATURES, MAP_ENTRY, ENTRY_KEY, ENTRY_VALUE = 0x0A, 0x0A, 0x0A, 0x12
LIST_TAG: dict[Encoding, int] = {"bytes_list": 0x0A, "float_list": 0x12, "int64_list": 0x1A}
LIST_VALUE = 0x0A


def masked_crc32c(data: bytes) -> int:
    """The masked CRC-32C that TFRecord frames carry: `((crc >> 15) | (crc << 17)) + 0xa282ead8`, in 32 bits."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    """A protobuf varint: seven bits a byte, the lowest first, the upper bit set in all but the last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(tag: int, *parts: bytes | int) -> list[bytes | int]:
    """A length-delimited field; a part that is a number stands for that many bytes of values."""
    size = sum(part if isinstance(part, int) else len(part) for part in parts)
    return [bytes([tag]) + varint(size), *parts]


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
        return next(place for spec, place in zip(self.features, self.values, strict=True) if spec.name == name)


def element_bytes(spec: FeatureSpec, encoding: Encoding) -> int:
    """The bytes of one element of a fixed feature in a record."""
    return VARINT64_BYTES if encoding == "int64_list" else spec.numpy_dtype.itemsize


@functools.lru_cache(maxsize=64)
def record_layout(features: tuple[FeatureSpec, ...], *, rows: int, rows_per_record: int) -> RecordLayout:
    """The layout of a record.

    Args:
        features: The features, sorted by name; none may be variable.
        rows: How many rows the record holds, at least 1.
        rows_per_record: How many a full record holds.
    """
    entries: list[bytes | int] = []
    for spec in features:
        encoding = spec.encoding(rows_per_record)
        values = field(LIST_VALUE, rows * spec.row_elements * element_bytes(spec, encoding))
        entry_value = field(ENTRY_VALUE, *field(LIST_TAG[encoding], *values))
        entries += field(MAP_ENTRY, *field(ENTRY_KEY, spec.name.encode()), *entry_value)
    parts = field(EXAMPLE_FEATURES, *entries)
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


def record_bytes(features: Sequence[FeatureSpec], rows_per_record: int) -> int:
    """The size of a full record in its file, framing included."""
    return record_layout(tuple(features), rows=rows_per_record, rows_per_record=rows_per_record).frame_bytes
