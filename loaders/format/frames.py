"""TFRecord frames of `tf.train.Example` records: where everything stands. The builder and the readers share it."""

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


def _field(tag: int, *parts: bytes | int) -> list[bytes | int]:
    """A length-delimited field; a part that is a number stands for that many bytes of values."""
    size = sum(part if isinstance(part, int) else len(part) for part in parts)
    return [bytes([tag]) + varint(size), *parts]


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
        values = _field(LIST_VALUE, rows * spec.row_elements * element_bytes(spec, encoding))
        entry_value = _field(ENTRY_VALUE, *_field(LIST_TAG[encoding], *values))
        entries += _field(MAP_ENTRY, *_field(ENTRY_KEY, spec.name.encode()), *entry_value)
    parts = _field(EXAMPLE_FEATURES, *entries)
    size = sum(part if isinstance(part, int) else len(part) for part in parts)
    length = size.to_bytes(8, "little")
    header = length + masked_crc32c(length).to_bytes(4, "little")
    fixed, places, offset = [(0, header)], [], HEADER_BYTES
    for part in parts:
        if isinstance(part, int):
            places.append((offset, part))
            offset += part
        else:
            fixed.append((offset, part))
            offset += len(part)
    return RecordLayout(features, rows, rows_per_record, tuple(fixed), tuple(places), offset + FOOTER_BYTES)


def empty_record(features: Sequence[FeatureSpec], *, rows: int, rows_per_record: int) -> bytes:
    """A serialized `tf.train.Example` of rows of zeros, empty strings and ragged rows of no length.

    Args:
        features: The features, sorted by name.
        rows: How many rows the record holds.
        rows_per_record: How many a full record holds.
    """
    entries: list[bytes | int] = []
    for spec in features:
        encoding = spec.encoding(rows_per_record)
        if spec.variable:
            strings = rows * (1 if spec.ragged else spec.row_elements)
            values: list[bytes | int] = [bytes([LIST_VALUE, 0]) * strings]
        else:
            # A varint of zero is a byte.
            element = 1 if encoding == "int64_list" else spec.numpy_dtype.itemsize
            values = _field(LIST_VALUE, bytes(rows * spec.row_elements * element))
        entry = _field(ENTRY_VALUE, *_field(LIST_TAG[encoding], *values))
        entries += _field(MAP_ENTRY, *_field(ENTRY_KEY, spec.name.encode()), *entry)
    return b"".join(part for part in _field(EXAMPLE_FEATURES, *entries) if isinstance(part, bytes))
