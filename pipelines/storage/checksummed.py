"""Files that say whether they are whole: the first line is the checksum of what comes after it.

A power cut may leave a file of the right name, and even of the right size, that is empty, half of it, or zeros.
"""

from __future__ import annotations

import google_crc32c

from pipelines.storage import files

CHECKSUM_BYTES = 9


def write_checked(path: str, data: bytes) -> None:
    """Writes a file with its checksum."""
    files.write_bytes(path, _checksum(data) + data)


def read_checked(path: str) -> bytes | None:
    """What `write_checked` wrote; None where there is no such file, or it is not whole."""
    if not files.exists(path):
        return None
    found = files.read_bytes(path)
    data = found[CHECKSUM_BYTES:]
    return data if found[:CHECKSUM_BYTES] == _checksum(data) else None


def _checksum(data: bytes) -> bytes:
    return b"%08x\n" % google_crc32c.value(data)


def file_checksum(path: str, *, synced: bool = False) -> str | None:
    """The CRC-32C of a file, eight hexadecimal digits; None where there is none.

    `synced` waits until a local file is on the disk, as it may be another run's.
    """
    if not files.exists(path):
        return None
    found = 0
    with files.open_input(path) as file:
        while data := file.read(files.COPIED_BYTES):
            found = google_crc32c.extend(found, data)
    if synced:
        files.sync(path)
    return f"{found:08x}"
