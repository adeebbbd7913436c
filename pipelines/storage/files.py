"""Files, local or in any file system that fsspec has: a path with `://` is reached as `file_systems` says.

What cannot be done raises an OSError that names the file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import uuid
from typing import Any, BinaryIO, cast

from pipelines import counters
from pipelines.errors import naming_file
from pipelines.storage.file_systems import ask, connect, is_object_store
from pipelines.storage.remote import FIRST_AHEAD_BYTES, RemoteFile, RemoteWriter
from pipelines.storage.remote import read_range as read_range
from pipelines.storage.retry import retrying, status_in

Path = str | os.PathLike[str]
"""How a caller may give a path; one in another file system is text."""

COPIED_BYTES = 8 * 2**20

BEGUN_BYTES = 8 * 2**20
"""After so many bytes of a file that will be synced the disk is told to begin with them."""

EXISTS_ALREADY = (409, 412)
"""The statuses with which a store refuses to write an object that should be new."""

NO_CONDITIONS = (errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
"""The errors of a file system that cannot write a file only where there is none."""


def is_local(path: str) -> bool:
    """Whether the operating system opens this path, not fsspec."""
    return "://" not in path


def join(root: str, *parts: str) -> str:
    """The path of something under `root`; `parts` may hold forward slashes."""
    if is_local(root):
        return os.path.join(root, *parts)
    return "/".join([root.rstrip("/"), *parts])


def is_absolute(path: str) -> bool:
    """Whether a path, or a pattern, begins at the root of a file system."""
    return not is_local(path) or os.path.isabs(path)


def locate(root: str, path: str) -> str:
    """The path of a source: from `root`, unless it is absolute already."""
    return path if is_absolute(path) else join(root, path)


def absolute(path: str) -> str:
    """The path from the root of its file system, for workers that run elsewhere; without a slash at the end."""
    return os.path.abspath(path) if is_local(path) else path.rstrip("/")


def open_input(path: str, *, size: int | None = None) -> BinaryIO:
    """Opens a file for reading bytes; the result can seek, and reads on quickly.

    Its size need not be asked for where it is known.
    """
    if is_local(path):
        return _open_file(path)
    return cast(BinaryIO, io.BufferedReader(RemoteFile(path, size=size), FIRST_AHEAD_BYTES))


def _open_file(path: str) -> BinaryIO:
    """Opens a local file, and nothing else: a pipe would be waited for, and a device may have no end."""
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # to open a directory is an error of its own
        raise OSError(errno.EINVAL, "expected a file; found a pipe or a device", path)
    return open(path, "rb")


class _SyncedFile(io.BufferedWriter):
    """A local file that is being written, and is on the disk when it is closed.

    The system is told to begin with what is written already, so that at the end there is little to wait for.
    """

    _begun = 0

    def write(self, data: Any, /) -> int:
        """Writes bytes; returns how many."""
        count, end = super().write(data), self.tell()
        if end - self._begun >= BEGUN_BYTES and hasattr(os, "posix_fadvise"):
            # Linux begins to write what is dirty; it drops only pages that are on the disk already: none of these.
            os.posix_fadvise(self.fileno(), self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end
        return count

    def close(self) -> None:
        """Ends the writing."""
        if not self.closed:
            self.flush()
            os.fsync(self.fileno())
        super().close()


def create(path: str, *, synced: bool = False) -> BinaryIO | RemoteWriter:
    """Opens a file for writing bytes, in place of any that is there; makes the directories above it.

    One that is `synced` is on the disk when it is closed; in an object store every object is.
    """
    if is_local(path):
        make_directory(os.path.dirname(path) or ".")
        return _SyncedFile(io.FileIO(path, "wb")) if synced else open(path, "wb")
    return RemoteWriter(path)


def sync(path: str) -> None:
    """Waits until what a local file holds is on the disk, or which names a local directory has."""
    if is_local(path):
        with naming_file(path):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def create_new(path: str, data: bytes) -> bool:
    """Writes a file that is not local, if there is none, and says whether; makes the directories above it.

    Of several who try at the same time one succeeds, where the file system can say so.
    """
    try:
        make_directory(path.rpartition("/")[0])
        ask(path, lambda system, place: system.pipe_file(place, data, mode="create"))
    except FileExistsError:
        return False
    except OSError as error:
        status = status_in(error)
        if status in EXISTS_ALREADY:
            return False
        if status != 501 and (status is not None or error.errno not in NO_CONDITIONS):
            raise
        if exists(path):
            return False
        ask(path, lambda system, place: system.pipe_file(place, data))
    return True


def writes_whole(path: str) -> bool:
    """Whether a file that is written there appears whole when it is closed, and not at all after an error."""
    return is_object_store(path)


def rename(source: str, destination: str) -> None:
    """Gives a file another name in the same file system; a file that has that name is replaced.

    Makes the directories above the new name.

    In a local directory and in an object store a reader sees either the old file or the new one.
    """
    if is_local(source):
        make_directory(os.path.dirname(destination) or ".")
        os.replace(source, destination)
        return
    if not is_object_store(source):
        if exists(destination):
            if not exists(source):
                return  # an attempt before this one did it, and only its answer was lost
            remove(destination)  # such a file system may refuse to write over it
        make_directory(destination.rpartition("/")[0])
    ask(source, lambda system, place: system.mv(place, connect(destination)[1]))


def exists(path: str) -> bool:
    """Whether there is a file of that name, or, where there are such, a directory."""
    if is_local(path):
        return os.path.exists(path)
    try:
        kind = ask(path, lambda system, place: system.info(place)["type"])
    except FileNotFoundError:
        return False
    return bool(kind == "file" or not is_object_store(path))


def size(path: str) -> int:
    """The bytes of a file."""
    return os.path.getsize(path) if is_local(path) else int(ask(path, lambda system, place: system.info(place)["size"]))


def remove(path: str) -> None:
    """Removes a file; one that does not exist is no error."""
    with contextlib.suppress(FileNotFoundError):
        if is_local(path):
            os.remove(path)
        else:
            ask(path, lambda system, place: system.rm_file(place))


def make_directory(path: str) -> None:
    """Makes a directory and those above it; one that exists is no error."""
    if is_local(path):
        os.makedirs(path, exist_ok=True)
    elif not is_object_store(path):
        ask(path, lambda system, place: system.makedirs(place, exist_ok=True))


def read_bytes(path: str) -> bytes:
    """The bytes of a file."""
    if not is_local(path):
        data = bytes(ask(path, lambda system, place: system.cat_file(place)))
        counters.count(counters.BYTES_READ, len(data))
        return data
    with _open_file(path) as file:
        return file.read()


def write_bytes(path: str, data: bytes, *, temporary: str | None = None, synced: bool = False) -> None:
    """Writes a file so that no reader sees half of it: first at `temporary`, or under a hidden name, if not at once.

    What is `synced` is on the disk, by its name, when this returns.
    """
    with naming_file(path):
        if writes_whole(path):
            with create(path) as file:
                file.write(data)
            return
        directory, slash, name = path.rpartition("/")
        first = temporary or f"{directory}{slash}.{name}.{uuid.uuid4().hex}"

        def write() -> None:
            with create(first, synced=synced) as file:
                file.write(data)

        retrying(write)
        rename(first, path)
        if synced:
            sync(directory or ".")


def read_text(path: str) -> str:
    """The UTF-8 text of a file, or of a pipe, as `<(command)` of a shell is one; else a UnicodeDecodeError."""
    if not is_local(path):
        return read_bytes(path).decode()
    with open(path, "rb") as file:
        return file.read().decode()


def write_text(path: str, text: str) -> None:
    """Writes a file of UTF-8 text as `write_bytes` does."""
    write_bytes(path, text.encode())
