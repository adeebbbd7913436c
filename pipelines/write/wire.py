"""Reads records whose rows differ in size, strictly: every byte is what the format says, or it is an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from loaders.format.frames import (
    ENTRY_KEY,
    ENTRY_VALUE,
    EXAMPLE_FEATURES,
    LIST_TAG,
    LIST_VALUE,
    MAP_ENTRY,
    VARINT64_BYTES,
)
from loaders.format.spec import FeatureSpec


class WireError(Exception):
    """A record that is not what it is expected to be; the message says what was found."""


@dataclasses.dataclass
class _Reader:
    """A message that is read from its beginning to its end."""

    data: bytes
    at: int = 0

    def field(self, tag: int) -> bytes:
        """The content of the next field, which has this tag and a length.

        Raises:
            WireError: If it is another one, or ends after the message.
        """
        if self.at >= len(self.data) or self.data[self.at] != tag:
            found = f"tag {self.data[self.at]:#x}" if self.at < len(self.data) else "the end"
            raise WireError(f"{found} instead of tag {tag:#x} at byte {self.at} of {len(self.data)}")
        self.at += 1
        size = shift = 0
        while True:
            if self.at >= len(self.data) or shift > 63:
                raise WireError(f"a length without an end at byte {self.at} of {len(self.data)}")
            byte = self.data[self.at]
            size |= (byte & 0x7F) << shift
            self.at += 1
            shift += 7
            if byte < 0x80:
                break
        if size > len(self.data) - self.at:
            raise WireError(f"a field of {size} bytes at byte {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def only(self, tag: int) -> bytes:
        """The content of the one field that the message has.

        Raises:
            WireError: If it has another one.
        """
        content = self.field(tag)
        self.end()
        return content

    def end(self) -> None:
        """Checks that nothing is left.

        Raises:
            WireError: If something is.
        """
        if self.at < len(self.data):
            raise WireError(f"{len(self.data) - self.at} more bytes")


def read_record(
    data: bytes, features: Sequence[FeatureSpec], rows: int, rows_per_record: int
) -> dict[str, list[bytes]]:
    """Reads a record.

    Args:
        data: A serialized `tf.train.Example`.
        features: The features that it holds, sorted by name.
        rows: How many rows it holds.
        rows_per_record: How many a full record holds.

    Returns:
        For each feature's name the strings of its list, or the bytes of its numbers as one.

    Raises:
        WireError: If it does not hold just these features for so many rows, in the order and layout of the format.
    """
    entries = _Reader(_Reader(data).only(EXAMPLE_FEATURES))
    result = {}
    for spec in features:
        entry = _Reader(entries.field(MAP_ENTRY))
        key = entry.field(ENTRY_KEY)
        if key != spec.name.encode():
            raise WireError(f"feature {key!r} instead of {spec.name}")
        value = entry.field(ENTRY_VALUE)
        entry.end()
        values = _Reader(_Reader(value).only(LIST_TAG[spec.encoding(rows_per_record)]))
        try:
            result[spec.name] = list(_read_values(values, spec, rows, rows_per_record))
        except WireError as error:
            raise WireError(f"feature {spec.name}: {error}") from error
    entries.end()
    return result


def _read_values(values: _Reader, spec: FeatureSpec, rows: int, rows_per_record: int) -> Iterator[bytes]:
    if not spec.variable:
        width = VARINT64_BYTES if spec.encoding(rows_per_record) == "int64_list" else spec.numpy_dtype.itemsize
        content = values.only(LIST_VALUE)
        if len(content) != rows * spec.row_elements * width:
            raise WireError(f"{len(content)} bytes of values")
        yield content
        return
    for _ in range(rows if spec.ragged else rows * spec.row_elements):
        content = values.field(LIST_VALUE)
        if spec.ragged and len(content) % (spec.row_elements * spec.numpy_dtype.itemsize):
            raise WireError(f"a row of {len(content)} bytes, which is no number of steps of shape {spec.inner_shape}")
        yield content
    values.end()
