"""Which containers of arrays there are."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterable, Sequence, Set

from loaders.format.names import MANIFEST, RESERVED, STATE, STATISTICS_PROTO
from pipelines.config.schema import DatasetConfig
from pipelines.errors import Problem, SourceError
from pipelines.sources.formats import container_of, is_container, is_table, shown_suffixes
from pipelines.sources.path_layout import fixed_directory, matches_any
from pipelines.storage import directories, files
from pipelines.storage.directories import FileInfo

_OUTPUT_ARCHIVES = frozenset(name for name in RESERVED if name.endswith(".npz"))
"""What a data set keeps of its analysis, in archives that hold no sources."""


def list_sources(root: str, config: DatasetConfig, *, only: Sequence[str] = ()) -> dict[str, FileInfo]:
    """The files under the root, or those that match one of some patterns, and in places that features name, by path.

    Those in other places have absolute paths. The archives of a data set that lies there are left out: an output may be
    below its sources.

    Raises:
        SourceError: If a directory cannot be read, or there is no file.
    """
    patterns = [pattern for said in config.features.values() for pattern in said.files or ()]
    elsewhere = [pattern for pattern in patterns if files.is_absolute(pattern)]
    listing = {info.path: info for info in _list_directory(root)}
    if only:
        listing = {path: info for path, info in listing.items() if matches_any(only, path)}
    base = files.absolute(root)
    for place in dict.fromkeys(map(fixed_directory, elsewhere)):
        for info in _list_directory(place):
            path = files.join(place, info.path)
            if matches_any(elsewhere, path):
                if path.startswith(f"{base}/"):  # the same file, found under the root
                    listing.pop(path.removeprefix(f"{base}/"), None)
                listing[path] = dataclasses.replace(info, path=path)
    if not any(map(is_container, listing)):
        raise SourceError([Problem(path=root, expected=f"at least one {shown_suffixes()} file", found="none")])
    return listing


def _list_directory(directory: str) -> list[FileInfo]:
    try:
        listing = directories.list_files(directory)
        own = _own_archives(directory, {info.path for info in listing})
    except OSError as error:
        found = error.strerror or str(error)
        problem = Problem(path=error.filename or directory, expected="a directory that can be read", found=found)
        raise SourceError([problem]) from error
    return _containers(info for info in listing if info.path not in own)


def _containers(listing: Iterable[FileInfo]) -> list[FileInfo]:
    """The containers and tables among files; a directory is as large as its files together, as new as the newest."""
    found: dict[str, FileInfo] = {}
    for info in listing:
        path = info.path if is_table(info.path) else container_of(info.path)
        if path is None:
            continue
        known = found.get(path, FileInfo(path=path, size=0, modified=info.modified))
        found[path] = FileInfo(path=path, size=known.size + info.size, modified=max(known.modified, info.modified))
    return list(found.values())


def _own_archives(root: str, paths: Set[str]) -> set[str]:
    """The archives of data sets that are built below the sources, whether they are finished or not."""
    found = {path for path in paths if path.rpartition("/")[2] in _OUTPUT_ARCHIVES}
    outputs = set()
    for directory in {*map(posixpath.dirname, found)}:
        finished = {posixpath.join(directory, name) for name in (MANIFEST, STATISTICS_PROTO)}
        if finished <= paths or files.exists(files.join(root, posixpath.join(directory, STATE))):
            outputs.add(directory)
    return {path for path in found if posixpath.dirname(path) in outputs}
