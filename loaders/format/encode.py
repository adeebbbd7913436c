"""Rows as TFRecord frames of `tf.train.Example` records.

Where all rows have one size, the frames are laid out as one byte matrix; otherwise each is put together from pieces
that are laid out for all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format import wire
from loaders.format.record_layout import FOOTER_BYTES, HEADER_BYTES, RecordLayout, crc32c, frame, masked
from loaders.format.spec import Encoding, FeatureSpec

U8 = npt.NDArray[np.uint8]


def encode_records(layout: RecordLayout, columns: Mapping[str, npt.NDArray[Any]]) -> U8:
    """Encodes rows, `[records * layout.rows, *shape]` for each feature in its `numpy_dtype`, as frames of a layout.

    Returns:
        uint8 `[records, layout.frame_bytes]`, the frames one after another as they stand in the file.
    """
    records = len(columns[layout.features[0].name]) // layout.rows
    frames = np.empty((records, layout.frame_bytes), dtype=np.uint8)
    for offset, fixed in layout.fixed:
        frames[:, offset : offset + len(fixed)] = np.frombuffer(fixed, dtype=np.uint8)
    for spec, (offset, size) in zip(layout.features, layout.values, strict=True):
        encoding = spec.encoding(layout.rows_per_record)
        frames[:, offset : offset + size] = _value_bytes(columns[spec.name], encoding).reshape(records, size)
    crcs = masked(crc32c(frames[:, HEADER_BYTES:-FOOTER_BYTES]))
    frames[:, -FOOTER_BYTES:] = crcs.astype("<u4")[:, np.newaxis].view(np.uint8)
    return frames


def _value_bytes(values: npt.NDArray[Any], encoding: Encoding) -> U8:
    flat = np.ascontiguousarray(values).reshape(-1)
    return padded_varints(flat) if encoding == "int64_list" else flat.view(np.uint8)


def padded_varints(values: npt.NDArray[np.int64]) -> U8:
    """Protobuf varints of ten bytes each, the longest there are, whatever the value: int64 `[n]` to uint8 `[n, 10]`."""
    shifts = np.arange(wire.VARINT64_BYTES, dtype=np.uint64) * np.uint64(7)
    groups = ((values.view(np.uint64)[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    groups[:, :-1] |= 0x80
    return groups


def encode_variable_records(
    features: Sequence[FeatureSpec], columns: Mapping[str, Any], *, rows: int, rows_per_record: int
) -> list[bytes]:
    """Encodes rows that differ in size as frames.

    Args:
        features: The features, sorted by name.
        columns: For each feature: NumPy's bytes `[rows, *shape]` for strings, whose zero bytes at the end are lost;
            where rows have lengths of their own, an object with the rows' `values` one after the other,
            `[sum of lengths, *inner shape]`, and the `lengths`, `[rows]`; otherwise `[rows, *shape]` in its
            `numpy_dtype`.
        rows: How many rows each record holds; the number of rows is a multiple of it.
        rows_per_record: How many a full record holds.

    Returns:
        The frames of the records.
    """
    count = len(columns[features[0].name]) // rows
    records = [bytearray() for _ in range(count)]
    for spec in features:
        encoding = spec.encoding(rows_per_record)
        for record, values in zip(records, _lists(spec, columns[spec.name], encoding, records=count), strict=True):
            record += _entry(spec, encoding, values)
    return [frame(_delimited(wire.EXAMPLE_FEATURES, bytes(record))) for record in records]


def _delimited(tag: int, data: bytes) -> bytes:
    return bytes([tag]) + wire.varint(len(data)) + data


def _entry(spec: FeatureSpec, encoding: Encoding, values: bytes) -> bytes:
    """The entry of the map of features: the name, and the list of values."""
    value = _delimited(wire.ENTRY_VALUE, _delimited(wire.LIST_TAG[encoding], values))
    return _delimited(wire.MAP_ENTRY, _delimited(wire.ENTRY_KEY, spec.name.encode()) + value)


def _lists(spec: FeatureSpec, column: Any, encoding: Encoding, *, records: int) -> Iterator[bytes]:
    """What the list of a feature holds in each record."""
    if not records:
        return
    if not spec.variable:
        data = _value_bytes(column, encoding).reshape(-1)
        size = len(data) // records
        for start in range(0, len(data), size):
            yield _delimited(wire.LIST_VALUE, data[start : start + size].tobytes())
        return
    strings, lengths = _strings(spec, column)
    encoded, ends = delimit(strings, lengths)
    start = 0
    per_record = len(lengths) // records
    for end in ends[per_record - 1 :: per_record].tolist():
        yield encoded[start:end].tobytes()
        start = end


def _strings(spec: FeatureSpec, column: Any) -> tuple[U8, npt.NDArray[np.int64]]:
    """The strings that stand for a feature whose rows differ in size.

    Returns:
        The bytes of all strings, one after the other, and the length of each: one string a row of a ragged feature,
        one for each element otherwise.
    """
    if spec.ragged:
        values = np.ascontiguousarray(column.values, dtype=spec.numpy_dtype)
        return values.reshape(-1).view(np.uint8), np.asarray(column.lengths, dtype=np.int64) * spec.step_bytes
    flat = np.ascontiguousarray(column).reshape(-1)
    width = flat.dtype.itemsize
    lengths = np.strings.str_len(flat).astype(np.int64)
    data = flat.view(np.uint8).reshape(len(flat), width)
    return data[np.arange(width) < lengths[:, None]], lengths


def delimit(data: U8, lengths: npt.NDArray[np.int64]) -> tuple[U8, npt.NDArray[np.int64]]:
    """Strings as the fields of a `bytes_list`: each with its tag and its length before it.

    They come as the bytes of all, one after the other, and the length of each; what is returned are the bytes of all
    fields, and where each ends.
    """
    digits = np.ones_like(lengths)
    for bits in range(7, 63, 7):
        digits += lengths >> bits != 0
    ends = np.cumsum(1 + digits + lengths)
    starts = ends - lengths - digits - 1
    encoded = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    is_data = np.ones(len(encoded), dtype=np.bool_)
    encoded[starts], is_data[starts] = wire.LIST_VALUE, False
    for digit in range(int(digits.max(initial=0))):
        has = digits > digit
        places = starts[has] + 1 + digit
        more = np.where(digits[has] > digit + 1, 0x80, 0)
        encoded[places] = lengths[has] >> (7 * digit) & 0x7F | more
        is_data[places] = False
    encoded[is_data] = data
    return encoded, ends
