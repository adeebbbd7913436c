"""The protobuf wire format, as far as `tf.train.Example` needs it: tags, lengths and numbers."""

from __future__ import annotations

from loaders.format.spec import Encoding

VARINT64_BYTES = 10

# The field numbers and wire types of tf.train.Example (example.proto, feature.proto); all are length-delimited.
EXAMPLE_FEATURES, MAP_ENTRY, ENTRY_KEY, ENTRY_VALUE = 0x0A, 0x0A, 0x0A, 0x12
LIST_TAG: dict[Encoding, int] = {"bytes_list": 0x0A, "float_list": 0x12, "int64_list": 0x1A}
LIST_VALUE = 0x0A


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


def field_bytes(size: int) -> int:
    """The bytes of a length-delimited field of so many bytes: a tag, a varint, and they."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size
