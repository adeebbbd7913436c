"""Files, local or in any file system that fsspec has: a path with `://` is reached as `connections` says.

What cannot be done raises an OSError that names the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import io
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Self, cast

from pipelines import counters
from pipelines.errors import naming_file
from pipelines.storage.connections import ask, connect, is_object_store
from pipelines.storage.remote import FIRST_AHEAD_BYTES, RemoteFile, RemoteWriter, Writer
from pipelines.storage.remote import read_range as read_range
from pipelines.storage.retry import retrying, status_in

Path = str | os.PathLike[str]
"""How a caller may give a path; one in another file system is text."""

COPIED_BYTES = 8 * 2**20

CHANGED = ("LastModified", "last_modified", "mtime", "updated", "created")
"""How file systems of fsspec call the time of a file's last change."""

EXISTS_ALREADY = (409, 412)
"""The statuses with which a store refuses to write an object that should be new."""

NO_CONDITIONS = (errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
"""The errors of a file system that cannot write a file only where there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One file of a listing.

    Attributes:
        path: The path from the listed root, with forward slashes.
        size: Its bytes.
        modified: When it was last changed, in seconds since 1970; 0 where the file system does not say.
    """

    path: str
    size: int
    modified: float


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


def list_files(root: str) -> list[FileInfo]:
    """All files under a directory, at any depth, sorted by path.

    Names that begin with `.` or `_` are hidden, and so is what is below them. Symbolic links are followed; a link to
    nothing is listed with size 0, and opening it says what is wrong.
    """
    found = _walk(root, "", ()) if is_local(root) else _list_remote(root)
    return sorted(found, key=lambda info: info.path)


def list_names(path: str) -> set[str]:
    """The names directly in a directory, hidden ones included; in what does not exist there is none."""
    try:
        return {*os.listdir(path)} if is_local(path) else _names_in(path.rstrip("/"))
    except FileNotFoundError:
        return set()


def is_empty(path: str, *, but: str = "") -> bool:
    """Whether a directory holds nothing, hidden names included, `but` one; what does not exist holds nothing."""
    return not list_names(path) - {but}


def _names_in(directory: str) -> set[str]:
    """The names directly in a directory that is not local."""
    found = ask(directory, lambda system, place: [n.removeprefix(place) for n in system.ls(place, detail=False)])
    if found == [""]:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
    return {name.strip("/") for name in found}


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _walk(directory: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[FileInfo]:
    status = os.stat(directory)
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a directory that holds it
        return
    for name in os.listdir(directory):
        if _hidden(name):
            continue
        path = os.path.join(directory, name)
        try:
            status = os.stat(path)
        except OSError:
            yield FileInfo(path=prefix + name, size=0, modified=0.0)
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path, f"{prefix}{name}/", (*above, here))
        elif stat.S_ISREG(status.st_mode):
            yield FileInfo(path=prefix + name, size=status.st_size, modified=status.st_mtime)


def _list_remote(root: str) -> Iterator[FileInfo]:
    for info in _find(root.rstrip("/")):
        if not info.path.endswith("/") and not any(map(_hidden, info.path.split("/"))):
            yield info


def _find(root: str) -> list[FileInfo]:
    """What is under a directory that is not local, hidden files too."""

    def ask_for(system: Any, place: str) -> list[FileInfo]:
        found = system.find(place, detail=True).items()
        paths = ((name[len(place) :].lstrip("/"), info) for name, info in found)
        return [FileInfo(path=path, size=info["size"] or 0, modified=_changed(info)) for path, info in paths]

    found = ask(root, ask_for)
    if any(not info.path for info in found):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    if not found and (is_object_store(root) or not exists(root)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
    return found


def _changed(info: Mapping[str, Any]) -> float:
    found = next((info[name] for name in CHANGED if info.get(name)), 0.0)
    if isinstance(found, str):
        found = datetime.datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime.datetime) else float(found)


def open_input(path: str, *, size: int | None = None) -> BinaryIO:
    """Opens a file for reading bytes; the result can seek, and reads on quickly.

    Its size need not be asked for where it is known.
    """
    if is_local(path):
        return open(path, "rb")
    return cast(BinaryIO, io.BufferedReader(RemoteFile(path, size=size), FIRST_AHEAD_BYTES))


class _SyncedFile:
    """A local file that is being written, and is on the disk when it is closed."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 - `close` closes it
        self.write = self._file.write

    def close(self) -> None:
        """Ends the writing."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close() if kind is None else self._file.close()


def create(path: str, *, synced: bool = False) -> Writer:
    """Opens a file for writing bytes, in place of any that is there; makes the directories above it.

    One that is `synced` is on the disk when it is closed; in an object store every object is.
    """
    if is_local(path):
        make_directory(os.path.dirname(path) or ".")
        return _SyncedFile(path) if synced else open(path, "wb")
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
    """Writes a file that is not local, if there is none; makes the directories above it.

    Returns:
        Whether there was none. Of several who try at the same time one succeeds, where the file system can say so.
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


def remove_tree(path: str, *, last: str = "") -> None:
    """Removes a directory and all that is in it, hidden files too, or a file; what does not exist is no error.

    What is `last` of the names in a directory goes when all else has gone.
    """
    if last and not is_object_store(path):
        for name in sorted(list_names(path) - {last}):
            remove_tree(join(path, name))
    if is_local(path):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)
        return
    with contextlib.suppress(FileNotFoundError):
        try:
            if is_object_store(path):
                _remove_objects(path.rstrip("/"), last)
            else:
                ask(path.rstrip("/"), lambda system, place: system.rm(place, recursive=True))
        except NotADirectoryError:
            remove(path)


def _remove_objects(root: str, last: str) -> None:
    names = [info.path for info in _find(root) if info.path != last]
    # fsspec would take some for patterns; the others go many at a time.
    plain = [name for name in names if not set("*?[") & {*root, *name}]
    if plain:
        ask(root, lambda system, place: system.rm([f"{place}/{name}" for name in plain]))
    for name in set(names) - set(plain):
        remove(f"{root}/{name}")
    if last:
        remove(f"{root}/{last}")


def remove_unfinished(root: str) -> None:
    """Gives up uploads under a directory that nobody will end: their parts are seen in no listing, and are paid for."""
    if is_local(root):
        return
    root = root.rstrip("/")
    system, place = connect(root)
    if not hasattr(system, "list_multipart_uploads"):
        return
    bucket, _, prefix = place.partition("/")
    for upload in ask(root, lambda system, _: system.list_multipart_uploads(bucket)):
        if upload["Key"].startswith(f"{prefix}/" if prefix else ""):
            system.abort_mpu(bucket, upload["Key"], upload["UploadId"])


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
    with open(path, "rb") as file:
        return file.read()


def write_bytes(path: str, data: bytes, *, temporary: str | None = None, synced: bool = False) -> None:
    """Writes a file so that no reader sees half of it.

    Args:
        path: The file.
        data: What it is to hold.
        temporary: Where it is written first, if it would not appear whole; a hidden name beside it if not given.
        synced: Whether it is on the disk, by its name, when this returns.
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


def copy_tree(source: str, destination: str) -> None:
    """Copies all files under a directory but hidden ones, and removes what else lies at the destination.

    There is no moment at which all appear together: something else must say that they are there.
    """
    names = [file.path for file in list_files(source)]
    for name in names:
        with open_input(join(source, name)) as found, create(join(destination, name)) as copied:
            while data := found.read(COPIED_BYTES):
                copied.write(data)
    for file in list_files(destination):
        if file.path not in names:
            remove(join(destination, file.path))


def read_text(path: str) -> str:
    """The UTF-8 text of a file.

    Raises:
        OSError: If it cannot be read.
        UnicodeDecodeError: If it is not UTF-8.
    """
    return read_bytes(path).decode()


def write_text(path: str, text: str) -> None:
    """Writes a file of UTF-8 text as `write_bytes` does."""
    write_bytes(path, text.encode())
