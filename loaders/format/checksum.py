"""The checksums of TFRecord frames, for many frames at once."""

from __future__ import annotations

import google_crc32c
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]


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
    # Each is a view: to copy them would take longer than the checksums.
    return np.fromiter(map(google_crc32c.value, rows), np.uint32, len(rows))
