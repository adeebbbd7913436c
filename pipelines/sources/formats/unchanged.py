"""Whether a container is as it was when its headers were read; it is a DataError if not."""

from __future__ import annotations

import datetime
import os

from pipelines.errors import DataError, Problem
from pipelines.sources.parts import SourceArray
from pipelines.storage import files


def check_size(size: int, path: str, source: SourceArray) -> None:
    """Compares the bytes of a container with those that it had before."""
    if size != source.size:
        expected = f"{source.size} bytes, as when the sources were checked"
        raise DataError(str(Problem(path=path, expected=expected, found=f"{size} bytes: the file has changed")))


def check_status(status: os.stat_result, path: str, source: SourceArray) -> None:
    """Compares size and time of change of a local file with those that it had before."""
    check_size(status.st_size, path, source)
    if status.st_mtime != source.modified:
        expected = f"a file last changed at {_show_time(source.modified)}, as when the sources were checked"
        raise DataError(str(Problem(path=path, expected=expected, found=_show_time(status.st_mtime))))


def check_local(path: str, source: SourceArray) -> None:
    """Does what `check_status` does, if a container is local: of others only the size is known."""
    if files.is_local(path):
        check_status(os.stat(path), path, source)


def _show_time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="milliseconds")
