"""Whether a file is the shard that the manifest lists, or another one of its size: swapped, or built again."""

from __future__ import annotations

import google_crc32c
import numpy as np
import numpy.typing as npt

from loaders.format import crc_combine
from loaders.format.names import MANIFEST
from loaders.storage.store import Store

U8 = npt.NDArray[np.uint8]

SPARSE_BYTES, SMALL_BYTES = 1 << 12, 1 << 20
"""The size of a record from which its checksums alone are read, and of a shard up to which it is read whole."""

AROUND_BYTES = 1 << 17
"""What Linux reads around a byte of a file if nothing else is set: so of smaller records it reads all, one by one."""

_LISTED: set[tuple[object, ...]] = set()
"""The files that this process has looked at; one that is written again is another one."""


def check_identity(store: Store, shard: int, rows_per_record: int, record_bytes: int | None) -> None:
    """Checks the local file that a shard was last read from, the first time.

    The checksums in its records make up that of the file, which the manifest has: of large records nothing else is
    read. A file that is not as its own checksums say is damaged: of which record, their checks tell. A large file of
    small records would have to be read whole before the first batch, and is not looked at.

    A full record has `rows_per_record` rows, and a size unless records differ in it.

    Raises:
        ShardError: If the file is whole, and is another one.
    """
    file, expected = store.file(shard), store.listed(shard)
    if file is None or (key := (*file, expected.crc32c)) in _LISTED:
        return
    small = expected.bytes <= SMALL_BYTES
    records = -(-expected.rows // rows_per_record)
    if not small and expected.bytes < SPARSE_BYTES * records:
        return
    if expected.bytes <= AROUND_BYTES * records:
        store.find_pages(shard)
    content = store.read(shard, 0, expected.bytes)
    cheap = _actual if small else _said
    if cheap(content, record_bytes) != int(expected.crc32c, 16):
        actual = _actual(content, record_bytes)
        if _said(content, record_bytes) == actual:
            found = f"found another one of its size, of {actual:08x} (files were swapped, or built again)"
            listed = f"expected the shard that {MANIFEST} lists, of CRC-32C {expected.crc32c}"
            raise store.error(shard, None, f"{listed}; {found}")
    _LISTED.add(key)


def _actual(content: U8, _: int | None) -> int:
    """The checksum of a file."""
    return int(google_crc32c.value(content))


def _said(content: U8, record_bytes: int | None) -> int | None:
    """The checksum of a file as its records say; None where they do not."""
    starts = np.arange(0, len(content), record_bytes) if record_bytes else crc_combine.frame_starts(content)
    return None if starts is None or not len(starts) else crc_combine.file_crc32c(content, starts)
