"""The files of a data set beside its shards: the manifest, and arrays."""

from __future__ import annotations

import io
import os
import posixpath
import stat
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format import names
from loaders.format.manifest import Manifest, ManifestError
from loaders.storage import remote


def read_manifest(root: str | os.PathLike[str]) -> Manifest:
    """Reads the manifest of the data set in a directory of any file system that fsspec reads.

    Raises:
        ManifestError: If it is not a finished data set, or is of a format version that this reader does not know.
    """
    path = posixpath.join(os.fspath(root), names.MANIFEST)
    content = read_bytes(path)
    if content is None:
        raise ManifestError(
            f"{os.fspath(root)}: not a finished data set: expected {names.MANIFEST}, which is written last; found none"
        )
    return Manifest.loads(content, path=path)


def read_arrays(root: str | os.PathLike[str], manifest: Manifest, name: str) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays of an `.npz` file beside the shards by their names; None where a data set has no such file.

    Raises:
        ManifestError: If it is not the one that the manifest lists.
    """
    if not manifest.lists(name):
        return None
    place = manifest.place(name)
    path = posixpath.join(os.fspath(root), place)
    content = read_bytes(path)
    manifest.check_file(place, content, path)
    with np.load(io.BytesIO(content or b""), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def read_bytes(path: str) -> bytes | None:
    """The content of a file, or None where there is none.

    Raises:
        ManifestError: If it is something else than a file, or no file system that fsspec reads.
    """
    if not remote.is_remote(path) and os.path.exists(path):
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # a pipe is waited for; a device may have no end
            raise ManifestError(f"{path}: expected a file; found a pipe or a device")
    try:
        if remote.is_remote(path):
            return remote.read(path)
        with open(path, "rb") as local:
            return local.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (ImportError, ValueError) as error:
        raise ManifestError(f"{path}: expected a file system that fsspec reads; found {error}") from error
