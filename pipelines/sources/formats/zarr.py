"""Zarr stores (versions 2 and 3) in directories, read by `zarr`: an array, or a group of arrays under their paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import fsspec

from pipelines.errors import DataError
from pipelines.lazy import Lazy
from pipelines.sources.formats import sliced
from pipelines.sources.formats.protocol import Format, FormatError, Member, naming_container
from pipelines.sources.formats.selection import Selection
from pipelines.storage import files
from pipelines.storage.file_systems import connect, naming_path
from pipelines.storage.retry import is_transient, retrying

if TYPE_CHECKING:
    import zarr
else:
    zarr = Lazy("zarr")  # which takes half a second, and most sources are no such store

INSTALL = "pip install 'npyflow[zarr]'"

T = TypeVar("T")


class Zarr(Format):
    """A directory of chunks. A chunk that is not there has the fill value in it, as Zarr means it.

    The library refuses codecs that unpickle (a store of version 2 may name one) for all dtypes that can be read.
    """

    suffix = ".zarr"
    directory = True

    def members(self, path: str, *, size: int) -> Sequence[Member]:
        found = _with_node(path, _members)  # at any depth; an array that is the whole store has no name
        if not found:
            raise FormatError(expected="at least one array", found="none")
        return found

    def read(self, path: str, selections: Sequence[Selection]) -> None:

        def copy(node: Any) -> None:
            for selection in selections:
                sliced.copy(_array(node, selection.source.member), path, selection)

        with naming_container(path):
            _with_node(path, copy)


def _members(node: Any) -> list[Member]:
    below = sorted(node.members(max_depth=None)) if _is_group(node) else [("", node)]
    return [sliced.member(name, array, array.shards or array.chunks) for name, array in below if not _is_group(array)]


def _is_group(node: Any) -> bool:
    return hasattr(node, "members")


def _array(node: Any, name: str) -> Any:
    """An array by its name; no other one is looked at."""
    try:
        return node[name] if name else node
    except KeyError:
        raise FormatError(expected=f"array {name!r}", found="none") from None


def _with_node(path: str, use: Callable[[Any], T]) -> T:
    """Calls a function with the array or group that a store is, as often as reading fails for a reason that passes."""
    local = files.is_local(path)

    def attempt() -> T:
        if local:
            return use(zarr.open(path, mode="r"))
        system, place = connect(path)
        store = zarr.storage.FsspecStore.from_mapper(fsspec.FSMap(place, system), read_only=True)
        return use(zarr.open(store, mode="r"))

    try:
        return attempt() if local else retrying(attempt)
    except ImportError:
        raise FormatError(expected="the package zarr", found=f"none ({INSTALL})") from None
    except (FormatError, DataError):
        raise
    except Exception as error:  # of zarr, of its codecs, of JSON: there is no common class
        if is_transient(error) or (isinstance(error, OSError) and error.errno is not None):
            with naming_path(path):
                raise
        expected = "a Zarr array, or a group of arrays, that can be read"
        raise FormatError(expected=expected, found=" ".join(f"{type(error).__name__}: {error}".split())) from None
