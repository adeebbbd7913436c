"""The checksums of TFRecord frames, for many frames at once. NumPy, and google-crc32c where it is installed."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

crc32c_of: Callable[[bytes], int] | None
try:
    from google_crc32c import value as crc32c_of
except ImportError:  # it is faster, and nothing else
    crc32c_of = None

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]

POLYNOMIAL = 0x82F63B78
"""The CRC-32C polynomial (Castagnoli), its bits reversed."""


def masked(crc: U32) -> U32:
    """Checksums as TFRecord frames hold them: `((crc >> 15) | (crc << 17)) + 0xa282ead8` in 32 bits."""
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


def crc32c(rows: U8) -> U32:
    """The CRC-32C of each row.

    Args:
        rows: uint8 of shape [rows, bytes], of at least 4 bytes; the bytes of a row lie together.

    Returns:
        uint32 of shape [rows].
    """
    if crc32c_of is None:
        return folded(rows)
    size, content = rows.shape[1], rows.tobytes()
    if len(rows) == 1:
        return np.array([crc32c_of(content)], dtype=np.uint32)
    # Slices of bytes are made faster than arrays, which counts where rows are short.
    return np.array([crc32c_of(content[at : at + size]) for at in range(0, len(content), size)], dtype=np.uint32)


def folded(rows: U8) -> U32:
    """`crc32c` in NumPy alone.

    A checksum is linear: it is the exclusive or of what each word of the row gives, moved past the words after it.
    So the words are added in pairs, the first of each moved past the second; then pairs of pairs, and so on.
    """
    count, size = rows.shape
    words = -(-size // 4)
    padded = 1 << (words - 1).bit_length()
    # Zeros before the first byte change nothing, unlike zeros after the last.
    data = np.zeros((count, padded * 4), dtype=np.uint8)
    data[:, padded * 4 - size :] = rows
    data[:, padded * 4 - size : padded * 4 - size + 4] ^= 0xFF
    values = data.view("<u4")
    level = 0
    while values.shape[1] > 1:
        values = _moved(values[:, 0::2], level) ^ values[:, 1::2]
        level += 1
    return ~_moved(values[:, 0], 0)


def _moved(values: U32, level: int) -> U32:
    """Checksums after `4 * 2**level` more zero bytes."""
    low, high = _tables(level)
    # Indexes of the machine's own type are twice as fast as those of 32 bits.
    moved: U32 = low.take((values & np.uint32(0xFFFF)).astype(np.intp))
    moved ^= high.take((values >> np.uint32(16)).astype(np.intp))
    return moved


@functools.lru_cache(maxsize=40)
def _tables(level: int) -> tuple[U32, U32]:
    """What the lower and the upper 16 bits of a checksum become after `4 * 2**level` zero bytes: [65536] each."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if level == 0:
        for _ in range(32):
            bits = (bits >> np.uint32(1)) ^ (bits & np.uint32(1)) * np.uint32(POLYNOMIAL)
    else:
        bits = _moved(_moved(bits, level - 1), level - 1)
    tables = np.zeros((2, 1 << 16), dtype=np.uint32)
    for half, table in enumerate(tables):
        for bit in range(16):
            # Of numbers with this bit as their highest, each is one without it, whose image is there already.
            table[1 << bit : 2 << bit] = table[: 1 << bit] ^ bits[16 * half + bit]
    return tables[0], tables[1]
