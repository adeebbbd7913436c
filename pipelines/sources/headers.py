"""The headers of many files, read in parallel; a worker elsewhere can read a chunk of them."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipelines.sources.formats import format_of
from pipelines.sources.formats.protocol import FormatError, Member
from pipelines.storage import files
from pipelines.storage.file_systems import CONNECTIONS

OPEN_AT_ONCE = CONNECTIONS
"""Files read at a time: in an object store each waits tens of milliseconds, and a million for 13 minutes."""

WAITING = 4
"""A chunk of files that takes so many times the processor's time was waited for."""

MAX_CHUNK = 256
"""Files that are handed to a thread together, where there are many."""

Chunk = Sequence[tuple[str, int]]
"""Files, each with its path from the root (or an absolute one) and its size."""

FileHeaders = tuple[Member, ...]
"""The arrays of one container; of one that cannot be read, a member without a name, with the error."""

HeaderReader = Callable[[str, Sequence[Chunk]], Iterable[Sequence[FileHeaders]]]
"""Maps a root and chunks of files to the results of `read_headers` for each chunk, in their order."""


def read_headers(root: str, paths_with_sizes: Chunk) -> list[FileHeaders]:
    """Reads the headers of some files, one after the other; no memory is taken on their word.

    What is wrong with a file is in the result; nothing is raised.
    """
    found: list[FileHeaders] = []
    for name, size in paths_with_sizes:
        path = files.locate(root, name)
        try:
            found.append(tuple(format_of(path).members(path, size=size)))
        except FormatError as error:
            found.append((Member(name="", error=error),))
        except OSError as error:
            fault = FormatError(expected="a file that can be read", found=error.strerror or str(error))
            found.append((Member(name="", error=fault),))
    return found


def cut(paths_with_sizes: Chunk) -> list[Chunk]:
    """Cuts a list of files into chunks: small ones where there are few files, so that all threads have some."""
    size = max(1, min(MAX_CHUNK, len(paths_with_sizes) // (4 * OPEN_AT_ONCE)))
    return [paths_with_sizes[start : start + size] for start in range(0, len(paths_with_sizes), size)]


def read_here(root: str, chunks: Sequence[Chunk]) -> Iterator[Sequence[FileHeaders]]:
    """Reads headers in this process, several chunks at a time where files make it wait; a `HeaderReader`."""
    begun = 0
    # A file in the page cache takes a third of what handing Python's lock from thread to thread does.
    while begun < len(chunks) and _local(root, chunks[begun]):
        started, worked = time.perf_counter(), time.thread_time()
        found = read_headers(root, chunks[begun])
        waited = time.perf_counter() - started > WAITING * (time.thread_time() - worked)
        yield found
        begun += 1
        if waited:
            break
    with concurrent.futures.ThreadPoolExecutor(OPEN_AT_ONCE) as pool:
        yield from pool.map(lambda chunk: read_headers(root, chunk), chunks[begun:])


def _local(root: str, chunk: Chunk) -> bool:
    return all(files.is_local(files.locate(root, path)) for path, _ in chunk)
