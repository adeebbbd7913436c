"""The checksum of a whole file from those of its frames, so that what they hold need not be read.

A CRC is linear: that of two pieces, one after the other, is the first one's, moved on by as many zeros as the second
has bytes, and the second one's, added without carry. (As zlib's `crc32_combine`; Mark Adler.)
"""

from __future__ import annotations

import functools
import struct

import numpy as np
import numpy.typing as npt

from loaders.format.checksum import masked
from loaders.format.frames import FOOTER_BYTES, HEADER_BYTES

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, the lowest bit first."""

ONES = np.uint32(0xFFFFFFFF)


def file_crc32c(content: U8, starts: I64) -> int | None:
    """The CRC-32C of a file as the checksums in its frames say.

    Args:
        content: The file, of which the first and last bytes of each frame are read.
        starts: Where each frame begins, int64 of shape [frames], at least one.

    Returns:
        The checksum, which is that of the file unless data is damaged; None where a frame's header is.
    """
    ends = np.append(starts[1:], len(content))
    header, footer = _words(content, starts, HEADER_BYTES), _words(content, ends - FOOTER_BYTES, FOOTER_BYTES)
    if (masked(_crc_of(header[:, :2])) != header[:, 2]).any():
        return None
    rest = len(content) - ends
    pieces = (
        (_crc_of(header), rest + (ends - starts) - HEADER_BYTES),
        (_unmasked(footer[:, 0]), rest + FOOTER_BYTES),
        (_crc_of(footer), rest),
    )
    return int(np.bitwise_xor.reduce([np.bitwise_xor.reduce(_moved(crc, zeros)) for crc, zeros in pieces]))


def frame_starts(content: U8) -> I64 | None:
    """Where each frame of a file begins, by the lengths in their headers; None where these do not fit."""
    starts, at = [], 0
    while at < len(content):
        if len(content) - at < HEADER_BYTES + FOOTER_BYTES:
            return None
        starts.append(at)
        at += HEADER_BYTES + FOOTER_BYTES + struct.unpack_from("<Q", content.data, at)[0]
    return np.array(starts, np.int64) if at == len(content) else None


def _words(content: U8, at: I64, size: int) -> U32:
    """Bytes of a file as little-endian words, `[places, size / 4]`."""
    words: U32 = content[at[:, None] + np.arange(size)].view("<u4")
    return words.astype(np.uint32, copy=False)


def _crc_of(words: U32) -> U32:
    """The CRC-32C of each row of words."""
    found = np.full(len(words), ONES)
    for word in words.T:
        found = _moved(found ^ word, np.full(len(words), 4))
    return found ^ ONES


def _unmasked(crc: U32) -> U32:
    """The inverse of `masked`."""
    crc = crc - np.uint32(0xA282EAD8)
    return (crc >> np.uint32(17)) | (crc << np.uint32(15))


def _moved(crc: U32, zeros: I64) -> U32:
    """Checksums moved on by numbers of bytes."""
    for power in range(int(zeros.max(initial=0)).bit_length()):
        wanted = (zeros >> power) & 1 == 1
        bytes_of = crc[wanted].astype("<u4").view(np.uint8).reshape(-1, 4)
        crc = crc.copy()
        crc[wanted] = np.bitwise_xor.reduce(_tables(power)[np.arange(4), bytes_of], axis=1)
    return crc


@functools.cache
def _tables(power: int) -> U32:
    """What `2**power` zeros make of each byte of a checksum, `[4, 256]`."""
    if power:
        half = _tables(power - 1)
        columns = [
            np.bitwise_xor.reduce([half[place][(one >> (8 * place)) & 255] for place in range(4)])
            for one in (int(half[bit // 8][1 << bit % 8]) for bit in range(32))
        ]
    else:
        columns = []
        for bit in range(32):
            value = 1 << bit
            for _ in range(8):
                value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
            columns.append(np.uint32(value))
    tables = np.zeros((4, 256), np.uint32)
    for bit, column in enumerate(columns):
        place, mask = divmod(bit, 8)
        tables[place, (np.arange(256) >> mask) & 1 == 1] ^= column
    return tables
