"""Reads the rows of records, which `encode` has made: by their constant layout, or by the protobuf wire format.

*Columns* are a dict of one array for each feature's name: [rows, *shape] in the
feature's dtype; a string is an object of `bytes`, and so is a whole row of a ragged feature, which `reading.columns`
decodes last.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format import wire
from loaders.format.record_layout import (
    FOOTER_BYTES,
    HEADER_BYTES,
    RecordLayout,
    crc32c,
    element_bytes,
    masked,
    masked_crc32c,
)
from loaders.format.spec import Encoding, FeatureSpec

U8 = npt.NDArray[np.uint8]
Columns = dict[str, npt.NDArray[Any]]


class RecordError(Exception):
    """A record that is not what the format says.

    Attributes:
        expected: What it should have been.
        found: What it is.
        record: Which one it is of those that were read together.
    """

    def __init__(self, expected: str, found: str, *, record: int = 0) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found
        self.record = record

    def __str__(self) -> str:
        return f"expected {self.expected}; found {self.found}"


def check_frames(frames: U8, layout: RecordLayout, *, first: int = 0) -> None:
    """Compares frames, uint8 of shape [records, layout.frame_bytes], with their layout and their checksums.

    Raises:
        RecordError: If a frame is another one, is damaged, or holds what is no value; its `record` is the number of the
            first such frame.
    """
    places, fixed = _fixed(layout)
    wrong = (frames[:, places] != fixed).any(axis=1)
    # Those before the first of another layout are compared first, so that the first that is wrong is named.
    count = int(wrong.argmax()) if wrong.any() else len(frames)
    crcs = masked(crc32c(frames[:count, HEADER_BYTES:-FOOTER_BYTES]))
    stored = np.ascontiguousarray(frames[:count, -FOOTER_BYTES:]).view("<u4")[:, 0]
    damaged = crcs != stored
    record = int(damaged.argmax()) if damaged.any() else count
    _check_values(frames[:record], layout, first=first)
    if record < count:
        raise RecordError(f"checksum {stored[record]:08x}", f"{crcs[record]:08x}", record=first + record)
    if count < len(frames):
        expected = f"a record of {layout.rows} rows in {layout.frame_bytes} bytes, laid out as the manifest says"
        raise RecordError(expected, "other bytes", record=first + count)


@functools.lru_cache(maxsize=64)
def _fixed(layout: RecordLayout) -> tuple[npt.NDArray[np.int64], U8]:
    """The places of the bytes of a frame that do not change, and these bytes."""
    places = [np.arange(offset, offset + len(piece)) for offset, piece in layout.fixed]
    return np.concatenate(places), np.frombuffer(b"".join(piece for _, piece in layout.fixed), np.uint8)


def _check_values(frames: U8, layout: RecordLayout, *, first: int) -> None:
    """Compares frames, whose checksums are right, with what can be written into them."""
    strange = []
    for spec in layout.features:
        encoding = spec.encoding(layout.rows_per_record)
        if allowed := _allowed(spec, encoding):
            wrong = _strange(values(frames, layout, spec), encoding)
            if wrong.any():
                strange.append((int(wrong.argmax()), f"{allowed} in feature {spec.name}"))
    if strange:
        record, expected = min(strange)
        raise RecordError(expected, "other bytes", record=first + record)


def _allowed(spec: FeatureSpec, encoding: Encoding) -> str:
    """Which bytes alone are values of a feature; "" where all are."""
    return "varints of ten bytes" if encoding == "int64_list" else "bools of 0 or 1" if spec.dtype == "bool" else ""


def _strange(encoded: U8, encoding: Encoding) -> npt.NDArray[np.bool_]:
    """Which records hold other bytes: uint8 of shape [records, ...] to [records]."""
    wrong = encoded > 1
    if encoding == "int64_list":
        size = wire.VARINT64_BYTES
        groups = encoded.reshape(*encoded.shape[:-1], encoded.shape[-1] // size, size)
        wrong = (groups[..., :-1] < 0x80).any(axis=-1) | (groups[..., -1] > 1)
    return np.asarray(wrong.any(axis=tuple(range(1, wrong.ndim))))


def values(frames: U8, layout: RecordLayout, spec: FeatureSpec) -> U8:
    """The values of a feature in frames, uint8 of shape [records, layout.frame_bytes], as they are encoded: a view.

    Returns:
        uint8 of shape [records, layout.rows, bytes of a row].
    """
    offset, size = layout.place(spec.name)
    return frames[:, offset : offset + size].reshape(len(frames), layout.rows, size // layout.rows)


def decoded(encoded: U8, spec: FeatureSpec) -> npt.NDArray[Any]:
    """Rows of a feature, a copy where need be: uint8 of shape [..., bytes of a row] to [rows, *shape]."""
    found = np.ascontiguousarray(encoded)
    numbers = varints(found) if found.shape[-1] != spec.row_bytes else found.reshape(-1).view(spec.numpy_dtype)
    return numbers.reshape(-1, *spec.inner_shape)


def put(encoded: U8, spec: FeatureSpec, target: npt.NDArray[Any]) -> None:
    """Copies rows of a feature, as `values` has them, to an array of shape [rows, *shape], which is C-contiguous."""
    if encoded.shape[-1] != spec.row_bytes:
        target[...] = decoded(encoded, spec)
    else:
        # As bytes, for their places in a frame are not aligned.
        as_bytes(target, spec).reshape(encoded.shape)[...] = encoded


def as_bytes(rows: npt.NDArray[Any], spec: FeatureSpec) -> U8:
    """The bytes of rows of a feature, C-contiguous, as a view: uint8 of shape [rows, bytes of a row]."""
    return rows.reshape(-1).view(np.uint8).reshape(len(rows), spec.row_bytes)


def varints(encoded: U8) -> npt.NDArray[np.int64]:
    """Protobuf varints of ten bytes each, C-contiguous uint8 of n * 10 elements, as numbers: int64 of shape [n]."""
    groups = encoded.reshape(-1, wire.VARINT64_BYTES).astype(np.uint64) & np.uint64(0x7F)
    shifts = np.arange(wire.VARINT64_BYTES, dtype=np.uint64) * np.uint64(7)
    numbers: npt.NDArray[np.uint64] = np.bitwise_or.reduce(groups << shifts, axis=1)
    return numbers.view(np.int64)


def frame_at(content: U8, at: int, *, check: bool) -> tuple[bytes, int]:
    """The data of the frame that begins at a byte of a shard, and where the frame ends.

    Unless the data is to be compared with its checksum, it is empty.

    Raises:
        RecordError: If there is no frame, or it is damaged.
    """
    end = at + HEADER_BYTES + data_bytes(content[at : at + HEADER_BYTES].tobytes(), len(content) - at)
    if not check:
        return b"", end + FOOTER_BYTES
    data = content[at + HEADER_BYTES : end].tobytes()
    check_data(data, content[end : end + FOOTER_BYTES].tobytes())
    return data, end + FOOTER_BYTES


def data_bytes(header: bytes, left: int) -> int:
    """How many bytes of data come after a frame's header, given how many bytes of the file are left from it on."""
    if len(header) < HEADER_BYTES or masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
        raise RecordError("the header of a record", "other bytes")
    size = int.from_bytes(header[:8], "little")
    missing = HEADER_BYTES + size + FOOTER_BYTES - left
    if missing > 0:
        raise RecordError(f"{missing} more bytes", "the end of the file")
    return size


def check_data(data: bytes, footer: bytes) -> None:
    """Compares the data of a frame with the checksum after it."""
    expected, found = int.from_bytes(footer, "little"), masked_crc32c(data)
    if expected != found:
        raise RecordError(f"checksum {expected:08x}", f"{found:08x}")


def parse(
    data: bytes, features: Sequence[FeatureSpec], *, names: frozenset[str], rows: int, rows_per_record: int
) -> Columns:
    """The columns of some names in a record of `rows` rows, a serialized `tf.train.Example`, by the wire format.

    `features` are all of the data set, sorted by name. A full record holds `rows_per_record` rows.

    Raises:
        RecordError: If it does not hold just these features for so many rows.
    """
    result = {}
    begin, end = _only(data, 0, len(data), wire.EXAMPLE_FEATURES)
    for spec in features:
        entry, begin = _content(data, begin, end, wire.MAP_ENTRY)
        if spec.name in names:
            try:
                result[spec.name] = _values(data, entry, begin, spec, rows=rows, rows_per_record=rows_per_record)
            except RecordError as error:
                raise RecordError(f"{error.expected} in feature {spec.name}", error.found) from error
    if begin != end:
        raise RecordError(f"{len(features)} features", f"{end - begin} more bytes")
    return result


def _only(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """`_content` of a field after which nothing comes."""
    begin, stop = _content(data, at, end, tag)
    if stop != end:
        raise RecordError(f"a field that ends at byte {end}", f"{end - stop} more bytes")
    return begin, stop


def _content(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of the field at a byte begins and ends; the field has this tag and a length."""
    if at >= end or data[at] != tag:
        found = f"tag {data[at]:#x}" if at < end else "the end"
        raise RecordError(f"tag {tag:#x} at byte {at} of {len(data)}", found)
    size = shift = 0
    for place in range(at + 1, min(at + 1 + wire.VARINT64_BYTES, end)):
        size |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            if size <= end - place - 1:
                return place + 1, place + 1 + size
            break
        shift += 7
    raise RecordError(f"a field that ends by byte {end}", f"one at byte {at} of {size} bytes")


def _values(
    data: bytes, begin: int, end: int, spec: FeatureSpec, *, rows: int, rows_per_record: int
) -> npt.NDArray[Any]:
    """The column of a feature from its entry of the map."""
    key, key_end = _content(data, begin, end, wire.ENTRY_KEY)
    if data[key:key_end] != spec.name.encode():
        raise RecordError("the name", f"{data[key:key_end]!r}")
    encoding = spec.encoding(rows_per_record)
    begin, end = _only(data, *_only(data, key_end, end, wire.ENTRY_VALUE), wire.LIST_TAG[encoding])
    elements = rows * spec.row_elements
    if not spec.variable:
        begin, end = _only(data, begin, end, wire.LIST_VALUE)
        if end - begin != elements * element_bytes(spec, encoding):
            raise RecordError(f"{elements} values", f"{end - begin} bytes")
        raw = np.frombuffer(data, np.uint8, end - begin, begin)
        if (allowed := _allowed(spec, encoding)) and _strange(raw[np.newaxis], encoding).any():
            raise RecordError(allowed, "other bytes")
        flat = varints(raw) if encoding == "int64_list" else raw.view(spec.numpy_dtype)
        return flat.reshape(rows, *spec.inner_shape)
    found = _strings(data, begin, end)
    strings = np.empty(rows if spec.ragged else elements, dtype=object)
    if len(found) != len(strings):
        raise RecordError(f"{len(strings)} strings", f"{len(found)}")
    strings[:] = found
    if not spec.ragged:
        return strings.reshape(rows, *spec.inner_shape)
    step = spec.step_bytes
    if odd := [len(row) for row in strings if len(row) % step]:
        raise RecordError(f"rows of steps of {step} bytes", f"one of {odd[0]} bytes")
    if spec.dtype == "bool" and any(row.translate(None, b"\0\1") for row in strings):
        raise RecordError(_allowed(spec, encoding), "other bytes")
    return strings


def _strings(data: bytes, at: int, end: int) -> list[bytes]:
    """The strings of a `bytes_list`."""
    tag, found = wire.LIST_VALUE, []
    last = end - 2
    while at < end:
        # A call for each would take half of the time: lengths of one and of two bytes are read here.
        if at < last and data[at] == tag and data[at + 1] < 0x80:
            begin = at + 2
            at = begin + data[at + 1]
        elif at < last and data[at] == tag and data[at + 2] < 0x80:
            begin = at + 3
            at = begin + (data[at + 1] & 0x7F | data[at + 2] << 7)
        else:
            begin, at = _content(data, at, end, tag)
        found.append(data[begin:at])
    if at > end:
        raise RecordError(f"a field that ends by byte {end}", f"one that ends at byte {at}")
    return found
