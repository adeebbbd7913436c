"""The checksum of a whole file from those of its frames, so that what they hold need not be read.

A CRC is linear: that of two pieces, one after the other, is the first one's, moved on by as many zeros as the second
has bytes, and the second one's, added without carry. (As zlib's `crc32_combine`; Mark Adler.)
"""

from __future__ import annotations

import functools
import struct

import numpy as np
import numpy.typing as npt

from loaders.format.record_layout import FOOTER_BYTES, HEADER_BYTES, masked

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, the lowest bit first."""

DIGIT_BITS = 4
"""How many bits of a number of zeros are looked up at once: of 1 GiB 8 times, in tables of 128 KiB."""


def file_crc32c(content: U8, starts: I64) -> int | None:
    """The CRC-32C of a file as the checksums in its frames, one at least, say, of which it reads the ends.

    It is that of the file unless data is damaged; None where a frame's header is.
    """
    ends = np.append(starts[1:], len(content))
    headers = content[starts[:, None] + np.arange(HEADER_BYTES)]
    footers = content[ends[:, None] - np.arange(FOOTER_BYTES, 0, -1)]
    if (masked(_crc32c(headers[:, :8])) != _word(headers)).any():
        return None
    frames = _moved(_crc32c(headers), ends - starts - HEADER_BYTES) ^ _crc32c(footers)
    frames ^= _moved(_unmasked(_word(footers)), np.array([FOOTER_BYTES]))
    return int(np.bitwise_xor.reduce(_moved(frames, len(content) - ends)))


def frame_starts(content: U8) -> I64 | None:
    """Where each frame of a file begins, by the lengths in their headers; None where these do not fit."""
    starts, at = [], 0
    while at < len(content):
        if len(content) - at < HEADER_BYTES + FOOTER_BYTES:
            return None
        starts.append(at)
        at += HEADER_BYTES + FOOTER_BYTES + struct.unpack_from("<Q", content.data, at)[0]
    return np.array(starts, np.int64) if at == len(content) else None


def _crc32c(rows: U8) -> U32:
    """The CRC-32C of each row of a few bytes, a multiple of four: a call for each would take longer."""
    crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for place in range(0, rows.shape[1], 4):
        crc = _moved(crc ^ _word(rows[:, : place + 4]), np.array([4]))
    return ~crc


def _word(rows: U8) -> U32:
    """The last four bytes of each row as a little-endian number."""
    found: U32 = np.ascontiguousarray(rows[:, -4:]).view("<u4")[:, 0].astype(np.uint32, copy=False)
    return found


def _unmasked(crc: U32) -> U32:
    """The inverse of `masked`."""
    crc = crc - np.uint32(0xA282EAD8)
    return (crc >> np.uint32(17)) | (crc << np.uint32(15))


def _moved(crc: U32, zeros: I64) -> U32:
    """Checksums moved on by numbers of bytes, by one digit of these after the other."""
    for place in range(-(-int(zeros.max(initial=0)).bit_length() // DIGIT_BITS)):
        digit = (zeros >> (DIGIT_BITS * place)) & ((1 << DIGIT_BITS) - 1)
        # Most frames are of one size.
        crc = _apply(_tables(place), int(digit[0]) if (digit == digit[0]).all() else digit, crc)
    return crc


def _apply(tables: U32, digit: I64 | int, crc: U32) -> U32:
    """Checksums moved on as tables `[digits, 4, 256]` say, each by one of these."""
    parts = (tables[digit, byte, (crc >> np.uint32(8 * byte)) & np.uint32(255)] for byte in range(4))
    return functools.reduce(np.bitwise_xor, parts)


@functools.cache
def _tables(place: int) -> U32:
    """What `digit * 16**place` zeros make of each byte of a checksum, `[digits, 4, 256]`."""
    # What a digit's zeros make of each bit: those of 1, then of 2, 3, ….
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    first = _one_zero() if place == 0 else _apply(_tables(place - 1), 1, _apply(_tables(place - 1), -1, bits))
    once = _of_bytes(first[None])
    made = [bits, first]
    while len(made) < 1 << DIGIT_BITS:
        made.append(_apply(once, 0, made[-1]))
    return _of_bytes(np.stack(made))


def _of_bytes(columns: U32) -> U32:
    """What becomes of each byte, of what becomes of each bit: `[digits, 4, 256]` of `[digits, 32]`."""
    tables = np.zeros((len(columns), 4, 256), np.uint32)
    for bit in range(32):
        byte, size = bit // 8, 1 << bit % 8
        tables[:, byte, size : 2 * size] = tables[:, byte, :size] ^ columns[:, bit, None]
    return tables


def _one_zero() -> U32:
    """What a byte of zeros makes of each bit of a checksum."""
    found = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(8):
        found = (found >> np.uint32(1)) ^ np.where(found & np.uint32(1), np.uint32(POLYNOMIAL), np.uint32(0))
    return found
