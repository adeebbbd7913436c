"""A directory of copies of shards, with a size limit, that several processes share.

Every file is locked (`flock`) by who writes or maps it, so that a process that dies leaves no lock, and what is in use
is not removed. (`filelock` has exclusive locks alone, each a file of its own; readers share a copy.) The sum of all
files' sizes never exceeds the limit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
from collections.abc import Callable, Iterator

LOCK_FILE = ".lock"
PART_SUFFIX = ".part"

NOTE_BYTES = 20
"""The bytes of the lock's file that hold the sum of all sizes, as text."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cache:
    """Copies of the shards of data sets.

    Where there is no room, the least recently used files of other data sets are removed. A data set's own shards stay:
    every epoch reads all of them, so of more than fit each one that is removed would be fetched again, whole, for a
    few of its rows.

    Attributes:
        directory: Where they are, a local directory; it is made. Nothing else may be in it.
        limit: How many bytes they may have together; None for no limit.

    Raises:
        ValueError: If the limit is negative.
    """

    directory: str
    limit: int | None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"cache_bytes is at least 0, or None for no limit; found {self.limit}")

    def open(self, data_set: str, name: str, size: int, fetch: Callable[[int], None]) -> int | None:
        """Opens the copy of a file of some size, by its path in a data set with forward slashes.

        If there is none, it is made: `fetch` writes the content of the original to a file descriptor.

        Returns:
            A file descriptor for reading. While it, or a map of it, is open, no process removes the file. None if there
            is no room for it, or the directory is another user's and has no copy.
        """
        try:
            return self._open(data_set, name, size, fetch)
        except PermissionError:
            return None

    def _open(self, data_set: str, name: str, size: int, fetch: Callable[[int], None]) -> int | None:
        path = pathlib.Path(self.directory, data_set, *name.split("/"))
        while True:
            found = _open_locked(path, size)
            if found is not None:
                with contextlib.suppress(PermissionError):
                    os.utime(found)  # it is the most recently used one
                return found
            path.parent.mkdir(parents=True, exist_ok=True)
            part, room = self._begin(data_set, path, size)
            if not room:
                return None
            if part is None:
                continue  # another process has made it meanwhile
            try:
                fetch(part)
                if os.fstat(part).st_size != size:
                    raise OSError(f"{path}: expected a copy of {size} bytes; found {os.fstat(part).st_size}")
                with self._alone():  # who adds up sizes sees it under one of its names
                    os.rename(f"{path}{PART_SUFFIX}", path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{path}{PART_SUFFIX}")
                os.close(part)
                raise
            fcntl.flock(part, fcntl.LOCK_SH)
            if _is_at(part, path):
                return part
            os.close(part)

    def discard(self, data_set: str, name: str, inode: int) -> bool:
        """Removes a copy, of a damaged file's inode, unless another one has taken its place; whether it is gone."""
        path = pathlib.Path(self.directory, data_set, *name.split("/"))
        try:
            with self._alone():
                if path.stat().st_ino == inode:
                    path.unlink()
        except FileNotFoundError:
            pass
        except PermissionError:
            return False
        return True

    def _begin(self, data_set: str, path: pathlib.Path, size: int) -> tuple[int | None, bool]:
        """Makes room for a file, and the file that becomes it, of its full size and locked.

        Returns:
            The file descriptor, or None where another process makes, or has made, the file; and whether there is room.
        """
        name = f"{path}{PART_SUFFIX}"
        with self._alone() as lock:
            if path.exists():
                return None, True
            part = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                if path.exists():  # it was renamed between these two
                    os.unlink(name)
                    os.close(part)
                    return None, True
                os.ftruncate(part, 0)
                room = False
                try:
                    if self._make_room(lock, data_set, size):
                        os.ftruncate(part, size)  # the room is taken from now on
                        room = True
                finally:
                    if not room:  # else others would wait for ever for who holds it
                        os.unlink(name)
                        os.close(part)
                return (part, True) if room else (None, False)
        fcntl.flock(part, fcntl.LOCK_SH)  # waits until it is made
        os.close(part)
        return None, True

    def _make_room(self, lock: int, data_set: str, size: int) -> bool:
        if self.limit is None:
            return True
        if size > self.limit:
            return False
        # At least what all files have together, so that they need not be looked at for each.
        noted = os.pread(lock, NOTE_BYTES, 0).strip()
        used = int(noted) if noted.isdigit() else self.limit
        if used + size > self.limit:
            used = self._remove(data_set, self.limit - size)
        if used + size > self.limit:
            return False
        os.pwrite(lock, f"{used + size:<{NOTE_BYTES}}".encode(), 0)
        return True

    def _remove(self, data_set: str, most: int) -> int:
        """Removes files of other data sets until all have at most so many bytes, if they can be; how many they have."""
        own = pathlib.Path(self.directory, data_set)
        files = {}
        for path in _files(self.directory):
            with contextlib.suppress(FileNotFoundError):  # one that was given up, or was cut off
                files[path] = path.stat()
        used = sum(found.st_size for found in files.values())
        for path in sorted(files, key=lambda path: files[path].st_mtime_ns):
            if used <= most:
                break
            if own in path.parents and not path.name.endswith(PART_SUFFIX):
                continue
            if _remove_unused(path):
                used -= files[path].st_size
        return used

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """What runs inside runs in one process at a time; the lock's file, which has the sum of all sizes, is open."""
        lock = os.open(pathlib.Path(self.directory, LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)


def _files(directory: str) -> Iterator[pathlib.Path]:
    for parent, _, names in os.walk(directory):
        for name in names:
            if name != LOCK_FILE:
                yield pathlib.Path(parent, name)


def _open_locked(path: pathlib.Path, size: int) -> int | None:
    """Opens a file that is there in full, and keeps others from removing it."""
    try:
        found = os.open(path, os.O_RDONLY)  # it may be another user's
    except FileNotFoundError:
        return None
    fcntl.flock(found, fcntl.LOCK_SH)
    # It may have been removed before it was locked.
    there = _is_at(found, path)
    if there and os.fstat(found).st_size == size:
        return found
    os.close(found)
    if there:
        path.unlink(missing_ok=True)  # cut off
    return None


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove_unused(path: pathlib.Path) -> bool:
    """Removes a file that no process has open; whether it has."""
    try:
        found = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(found, path):
            path.unlink()
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.close(found)
    return True
