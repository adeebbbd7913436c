"""Files, local or in any file system that Beam reads: a path with `://` goes through Beam, others through the OS.

Beam is imported where it is used only: that takes two seconds, which looking at a local directory need not wait for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO, cast


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
    """Whether the operating system opens this path, not Beam."""
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

    Args:
        root: The directory.

    Raises:
        OSError: If `root` does not exist, is not a directory, or cannot be read.
    """
    found = _walk(root, "", ()) if is_local(root) else _list_remote(root)
    return sorted(found, key=lambda info: info.path)


def is_empty(path: str) -> bool:
    """Whether a directory holds nothing, hidden names included; one that does not exist holds nothing.

    Raises:
        OSError: If it cannot be read, or is a file.
    """
    try:
        return not (os.listdir(path) if is_local(path) else _match_all(path))
    except FileNotFoundError:
        return True


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
    base = root.rstrip("/") + "/"
    for path, metadata in _match_all(root).items():
        relative = path.removeprefix(base)
        if relative and not relative.endswith("/") and not any(map(_hidden, relative.split("/"))):
            modified = float(metadata.last_updated_in_seconds or 0)
            yield FileInfo(path=relative, size=metadata.size_in_bytes, modified=modified)


def _match_all(root: str) -> dict[str, Any]:
    """Beam's metadata of every file under `root`, by path.

    Object stores list everything below a prefix. File systems that have directories (HDFS) list one level, directories
    among the files, with size 0; listing a file fails there, which is how the two are told apart.
    """
    filesystem = _filesystem(root)
    root = root.rstrip("/")
    found: dict[str, Any] = {}
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            # Beam cannot quote a wildcard; `?` stands for each, and what else it matches is left out below.
            pattern = re.sub(r"[*?[]", "?", directory) + "/**"
            entries = filesystem.match([pattern])[0].metadata_list
        except OSError:
            if directory == root:
                raise
            continue
        found.pop(directory, None)
        for entry in entries:
            if entry.path not in found and entry.path.startswith(f"{directory}/"):
                found[entry.path] = entry
                if filesystem.has_dirs() and entry.size_in_bytes == 0:
                    pending.append(entry.path)
    if not found and not filesystem.has_dirs():
        code = errno.ENOTDIR if filesystem.exists(root) else errno.ENOENT
        raise OSError(code, os.strerror(code), root)
    return found


def _filesystem(path: str) -> Any:
    from apache_beam.io.filesystems import FileSystems

    try:
        return FileSystems.get_filesystem(path)
    except ValueError as error:  # a scheme that Beam does not know, or one whose packages are not installed
        raise OSError(str(error)) from error


def open_input(path: str) -> BinaryIO:
    """Opens a file for reading bytes; the result can seek.

    Raises:
        OSError: If it cannot be opened.
    """
    if is_local(path):
        return open(path, "rb")
    from apache_beam.io.filesystem import CompressionTypes

    # Without it, Beam would unpack a file by its suffix.
    return cast(BinaryIO, _filesystem(path).open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def create(path: str) -> BinaryIO:
    """Opens a file for writing bytes, in place of any that is there; makes the directories above it.

    Raises:
        OSError: If it cannot be created.
    """
    if is_local(path):
        make_directory(os.path.dirname(path) or ".")
        return open(path, "wb")
    from apache_beam.io.filesystem import CompressionTypes

    _make_way(path)
    return cast(BinaryIO, _filesystem(path).create(path, compression_type=CompressionTypes.UNCOMPRESSED))


def rename(source: str, destination: str) -> None:
    """Gives a file another name in the same file system; a file that has that name is replaced.

    Makes the directories above the new name.

    In a local directory and in an object store a reader sees either the old file or the new one.

    Raises:
        OSError: If it cannot be done.
    """
    if is_local(source):
        make_directory(os.path.dirname(destination) or ".")
        os.replace(source, destination)
    else:
        _make_way(destination)
        _filesystem(source).rename([source], [destination])


def _make_way(path: str) -> None:
    """Removes a file where the file system would refuse to write over it (HDFS); object stores replace it."""
    filesystem = _filesystem(path)
    if filesystem.has_dirs() and filesystem.exists(path):
        filesystem.delete([path])


def exists(path: str) -> bool:
    """Whether there is a file of that name, or, where there are such, a directory."""
    return os.path.exists(path) if is_local(path) else bool(_filesystem(path).exists(path))


def size(path: str) -> int:
    """The bytes of a file.

    Raises:
        OSError: If there is none.
    """
    return os.path.getsize(path) if is_local(path) else int(_filesystem(path).size(path))


def remove(path: str) -> None:
    """Removes a file; one that does not exist is no error.

    Raises:
        OSError: If it cannot be removed.
    """
    if is_local(path):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
    elif exists(path):
        _filesystem(path).delete([path])


def remove_tree(path: str) -> None:
    """Removes a directory and all that is in it, hidden files too; one that does not exist is no error.

    Raises:
        OSError: If it cannot be removed.
    """
    if is_local(path):
        if os.path.lexists(path):
            shutil.rmtree(path)
        return
    filesystem = _filesystem(path)
    if filesystem.has_dirs():
        if filesystem.exists(path):
            filesystem.delete([path])
        return
    try:
        found = list(_match_all(path))
    except FileNotFoundError:
        return
    filesystem.delete(found)


def make_directory(path: str) -> None:
    """Makes a directory and those above it; one that exists is no error.

    Raises:
        OSError: If it cannot be made.
    """
    if is_local(path):
        os.makedirs(path, exist_ok=True)
    elif not exists(path):
        _filesystem(path).mkdirs(path)


def read_bytes(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: If it cannot be read.
    """
    with open_input(path) as file:
        return file.read()


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file under a hidden name and renames it, so that no reader sees half of it.

    Raises:
        OSError: If it cannot be written.
    """
    directory, slash, name = path.rpartition("/")
    temporary = f"{directory}{slash}.{name}.{uuid.uuid4().hex}"
    with create(temporary) as file:
        file.write(data)
    rename(temporary, path)


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
