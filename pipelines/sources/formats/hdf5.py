"""HDF5 files, read by `h5py`: every data set in one is an array, under its path in the file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipelines.lazy import Lazy
from pipelines.sources.formats import sliced
from pipelines.sources.formats.protocol import Format, FormatError, Member, naming_container
from pipelines.sources.formats.selection import Selection
from pipelines.sources.formats.unchanged import check_local, check_size
from pipelines.storage import files

if TYPE_CHECKING:
    import h5py
else:
    h5py = Lazy("h5py")

INSTALL = "pip install 'npyflow[hdf5]'"


class Hdf5(Format):
    """A file of arrays with names, which are read chunk by chunk.

    What lies in other files (links, external and virtual data sets) is not read.
    """

    named = True

    def members(self, path: str, *, size: int) -> Sequence[Member]:
        with _opened(path) as (file, found_size):
            if found_size != size:
                seen = f"{found_size} bytes: the file has changed"
                raise FormatError(expected=f"{size} bytes, as when it was listed", found=seen)
            found: list[Member] = []  # at any depth, in the order of their paths; links are not followed
            file.visititems(lambda _, node: found.append(_member(node)) if isinstance(node, h5py.Dataset) else None)
        if not found:
            raise FormatError(expected="at least one data set", found="none")
        return found

    def read(self, path: str, selections: Sequence[Selection]) -> None:
        source = selections[0].source
        check_local(path, source)
        with naming_container(path), _opened(path) as (file, size):
            check_size(size, path, source)
            for selection in selections:
                name = selection.source.member
                try:
                    sliced.copy(file[name], path, selection)
                except (OSError, KeyError) as error:
                    if getattr(error, "errno", None) is not None:
                        raise
                    raise FormatError(expected=f"data set {name!r} to be readable", found=_said(error)) from None


def _member(dataset: h5py.Dataset) -> Member:
    name = dataset.name.removeprefix("/")
    fault = None
    if dataset.external or dataset.is_virtual:
        fault = FormatError(expected="values that lie in the file itself", found=f"{name!r}, whose do not")
    elif lacking := _lacking_filters(dataset):
        fault = FormatError(expected=f"the filters of HDF5 by which {name!r} is read", found=f"no {lacking[0]!r}")
    return sliced.member(name, dataset, dataset.chunks) if fault is None else Member(name=name, error=fault)


def _lacking_filters(dataset: h5py.Dataset) -> list[str]:
    """The names, or numbers, of filters of a data set that are not installed."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number) for number in range(properties.get_nfilters())]
    return [name.decode() or str(code) for code, _, _, name in filters if not h5py.h5z.filter_avail(code)]


def _said(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[h5py.File, int]]:
    """A file and its bytes."""
    try:
        make = h5py.File
    except ImportError:
        raise FormatError(expected="the package h5py", found=f"none ({INSTALL})") from None
    with files.open_input(path) as raw:
        size = raw.seek(0, os.SEEK_END)
        try:
            # The library's own driver takes a third of the time; a lock would need leave to write on some file systems.
            file = make(path if files.is_local(path) else raw, "r", locking="best-effort")
        except OSError as error:
            if error.errno is not None:
                raise
            raise FormatError(expected="an HDF5 file", found=_said(error)) from None
        with file:
            yield file, size
