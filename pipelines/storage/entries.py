"""Files that are not local, as entries of their file system: listed, created where there is none, renamed, removed."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
from collections.abc import Mapping
from typing import Any

from pipelines.storage.connections import ask, connect, is_object_store
from pipelines.storage.retry import status_in

CHANGED = ("LastModified", "last_modified", "mtime", "updated", "created")
"""How file systems of fsspec call the time of a file's last change."""

EXISTS_ALREADY = (409, 412)
"""The statuses with which a store refuses to write an object that should be new."""

NO_CONDITIONS = (errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
"""The errors of a file system that cannot write a file only where there is none."""


def find(root: str) -> Mapping[str, tuple[int, float]]:
    """What is under a directory, hidden files too, by its path from there.

    Returns:
        The bytes of each file, and when it was last changed, in seconds since 1970; 0 where nothing says so.

    Raises:
        OSError: If there is no such directory, or it is a file.
    """
    root = root.rstrip("/")

    def ask_for(system: Any, place: str) -> dict[str, tuple[int, float]]:
        found = system.find(place, detail=True)
        return {name[len(place) :].lstrip("/"): (info["size"] or 0, _changed(info)) for name, info in found.items()}

    found = ask(root, ask_for)
    if "" in found:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    if not found and (is_object_store(root) or not exists(root)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
    return found


def _changed(info: Mapping[str, Any]) -> float:
    found = next((info[name] for name in CHANGED if info.get(name)), 0.0)
    if isinstance(found, str):
        found = datetime.datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime.datetime) else float(found)


def names_in(directory: str) -> set[str]:
    """The names directly in a directory; errors are those of `find`."""
    found = ask(directory, lambda system, place: [n.removeprefix(place) for n in system.ls(place, detail=False)])
    if found == [""]:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
    return {name.strip("/") for name in found}


def exists(path: str) -> bool:
    """Whether there is a file, or, where there are such, a directory."""
    try:
        kind = ask(path, lambda system, place: system.info(place)["type"])
    except FileNotFoundError:
        return False
    return bool(kind == "file" or not is_object_store(path))


def size(path: str) -> int:
    """The bytes of a file."""
    return int(ask(path, lambda system, place: system.info(place)["size"]))


def create_new(path: str, data: bytes) -> bool:
    """Writes a file if there is none, and returns whether there was none.

    The store decides, so of several writers one succeeds; where it cannot, more may.
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


def rename(source: str, destination: str) -> None:
    """Gives a file another name; one that has it is replaced."""
    if not is_object_store(source):
        if exists(destination):
            if not exists(source):
                return  # an attempt before this one did it, and only its answer was lost
            remove(destination)  # such a file system may refuse to write over it
        make_directory(destination.rpartition("/")[0])
    ask(source, lambda system, place: system.mv(place, connect(destination)[1]))


def remove(path: str) -> None:
    """Removes a file; one that does not exist is no error."""
    with contextlib.suppress(FileNotFoundError):
        ask(path, lambda system, place: system.rm_file(place))


def remove_tree(root: str) -> None:
    """Removes all that is under a directory; one that does not exist is no error."""
    root = root.rstrip("/")
    with contextlib.suppress(FileNotFoundError):
        if is_object_store(root):
            _remove_objects(root)
        else:
            ask(root, lambda system, place: system.rm(place, recursive=True))


def _remove_objects(root: str) -> None:
    names = list(find(root))
    # fsspec would take some for patterns; the others go many at a time.
    plain = [name for name in names if not set("*?[") & {*root, *name}]
    if plain:
        ask(root, lambda system, place: system.rm([f"{place}/{name}" for name in plain]))
    for name in set(names) - set(plain):
        remove(f"{root}/{name}")


def remove_unfinished(root: str) -> None:
    """Gives up uploads under a directory that nobody will end: their parts are seen in no listing, and are paid for."""
    root = root.rstrip("/")
    system, place = connect(root)
    if not hasattr(system, "list_multipart_uploads"):
        return
    bucket, _, prefix = place.partition("/")
    for upload in ask(root, lambda system, _: system.list_multipart_uploads(bucket)):
        if upload["Key"].startswith(f"{prefix}/" if prefix else ""):
            system.abort_mpu(bucket, upload["Key"], upload["UploadId"])


def make_directory(path: str) -> None:
    """Makes a directory and those above it, where there are such; one that exists is no error."""
    if not is_object_store(path):
        ask(path, lambda system, place: system.makedirs(place, exist_ok=True))
