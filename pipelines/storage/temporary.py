"""Temporary directories of this machine: they go when they were used, those of killed processes with the next one."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from pipelines.storage import directories, files

PREFIX = "npyflow-"

_OWNER, _INSIDE = "owner.lock", "files"


@contextmanager
def temporary_directory(purpose: str) -> Iterator[str]:
    """A directory that goes when the context is left, or, if this process is killed, when another one makes one.

    Its purpose is a word of its name.
    """
    above = tempfile.gettempdir()
    _clear_up(above)
    hidden = tempfile.mkdtemp(prefix=f".{PREFIX}", dir=above)
    directory = os.path.join(above, f"{PREFIX}{purpose}-{os.path.basename(hidden).removeprefix(f'.{PREFIX}')}")
    # The operating system gives the lock up with the process. Who clears up sees the directory when it is locked.
    with FileLock(os.path.join(hidden, _OWNER)):
        try:
            os.mkdir(os.path.join(hidden, _INSIDE))
            os.rename(hidden, directory)
            yield os.path.join(directory, _INSIDE)
        finally:
            for left in (hidden, directory):
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def shared_directory(purpose: str, above: str | None) -> Iterator[str]:
    """A directory that goes when the context is left, below one that workers elsewhere share; else of this machine."""
    if above is None:
        with temporary_directory(purpose) as directory:
            yield directory
        return
    directory = files.join(above, f"{PREFIX}{purpose}-{uuid.uuid4().hex}")
    try:
        yield directory
    finally:
        directories.remove_tree(directory)


def _clear_up(above: str) -> None:
    """Removes the directories of this user whose process is gone."""
    with os.scandir(above) as entries:
        found = [
            entry.path
            for entry in entries
            if entry.name.startswith(PREFIX) and os.path.isfile(os.path.join(entry.path, _OWNER))
        ]
    for directory in found:
        # Another process may clear up too, and another user's cannot be locked.
        with suppress(OSError, Timeout), FileLock(os.path.join(directory, _OWNER), timeout=0):
            shutil.rmtree(directory, ignore_errors=True)
