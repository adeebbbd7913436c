"""Directories, local or in any file system that fsspec has: listed, copied and removed.

What cannot be done raises an OSError that names the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.storage.file_systems import ask, connect, is_object_store
from pipelines.storage.files import COPIED_BYTES, create, exists, is_local, join, open_input, remove

NEVER_HIDDEN = (".zarray", ".zgroup")
"""The metadata of Zarr stores of version 2, all that there is where every value is the fill value."""

CHANGED = ("LastModified", "last_modified", "mtime", "updated", "created")
"""How file systems of fsspec call the time of a file's last change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One file of a listing."""

    path: str  # from the listed root, with forward slashes
    size: int
    modified: float  # seconds since 1970; 0 where the file system does not say


def list_files(root: str) -> list[FileInfo]:
    """All files under a directory, at any depth, sorted by path.

    Names that begin with `.` or `_` are hidden, and so is what is below them. Symbolic links are followed; a link to
    nothing is listed with size 0, and opening it, or a pipe or a device, says what is wrong.
    """
    if is_local(root):
        return sorted(_walk(root, "", ()), key=lambda info: info.path)
    names = ((info, info.path.split("/")) for info in sorted(_find(root.rstrip("/")), key=lambda info: info.path))
    return [info for info, parts in names if parts[-1] and not any(map(_hidden, parts))]


def list_names(path: str) -> set[str]:
    """The names directly in a directory, hidden ones included; in what does not exist there is none."""
    try:
        return {*os.listdir(path)} if is_local(path) else _names_in(path.rstrip("/"))
    except FileNotFoundError:
        return set()


def _names_in(directory: str) -> set[str]:
    """The names directly in a directory that is not local."""
    found = ask(directory, lambda system, place: [n.removeprefix(place) for n in system.ls(place, detail=False)])
    if found == [""]:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
    return {name.strip("/") for name in found}


def _hidden(name: str) -> bool:
    return name.startswith((".", "_")) and name not in NEVER_HIDDEN


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
        else:
            yield FileInfo(path=prefix + name, size=status.st_size, modified=status.st_mtime)


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
