"""The bytes of a split's shards: mapped local files, copies in a cache, or ranges of files of any file system."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import mmap
import operator
import os
import posixpath
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Shard
from loaders.storage import remote
from loaders.storage.remote import is_remote

if TYPE_CHECKING:
    from loaders.storage.cache import Cache

# An open map holds a file descriptor, of which a process may have 256, and several loaders.
OPEN_FILES = 32

# So many bytes are copied in less time than a file is mapped, its pages are found, and it is unmapped.
SMALL_BYTES = 1 << 16

COPY_BYTES = 8 << 20

MADV_POPULATE_READ = 22
"""To find pages for reading; Linux, from 5.14 on (`madvise(2)`). Python has no name for it before 3.14."""

ATTEMPTS, FIRST_WAIT = 4, 0.1
"""How often a file is asked for that cannot be reached, and the seconds before the second time; then three as long."""

COPIES_AT_ONCE = 4
"""Ranges of a remote shard that are copied at a time: each waits tens of milliseconds for its first byte."""

MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""The errors of a file that is not there; others, such as too many open files or a busy server, may pass."""

U8 = npt.NDArray[np.uint8]

T = TypeVar("T")


class ShardError(OSError):
    """A shard that is missing or damaged; the message names the file and the record.

    Args:
        file: The path of the shard.
        record: The number of the record; None for the shard as a whole.
        message: What was expected, and found.
        passing: Whether it says nothing of the shard: it could not be reached, and may be later.
    """

    def __init__(self, file: str, record: int | None, message: str, passing: bool = False) -> None:
        super().__init__(f"{file}: {'' if record is None else f'record {record}: '}{message}")
        self.file, self.record, self.message, self.passing = file, record, message, passing

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.record, self.message, self.passing)


def make_cache(directory: str | os.PathLike[str] | None, limit: int | None) -> Cache | None:
    """The cache that a loader's options `cache_dir` and `cache_bytes` mean; None for no directory.

    Raises:
        TypeError: If the limit is not an integer.
        ValueError: If there is a limit and no directory, or it is negative.
    """
    if directory is None:
        if limit is not None:
            raise ValueError(f"cache_bytes is the limit of cache_dir; found {limit} and no cache_dir")
        return None
    from loaders.storage.cache import Cache  # it needs locks that not every system has

    return Cache(directory=os.fspath(directory), limit=None if limit is None else operator.index(limit))


class Store:
    """Reads bytes of shards. It can be pickled; the copy opens the files anew.

    It holds the maps of at most `OPEN_FILES` shards, or the content of those that have at most `SMALL_BYTES`.

    Without a cache, files are read where they are. `data_set` is the name of the data set in it.
    """

    def __init__(self, root: str, shards: Sequence[Shard], *, cache: Cache | None = None, data_set: str = "") -> None:
        self._root, self._shards, self._cache, self._data_set = root, tuple(shards), cache, data_set
        self._reset()

    def _reset(self) -> None:
        self._open: collections.OrderedDict[int, U8] = collections.OrderedDict()
        self._found: dict[int, tuple[int, ...]] = {}
        self._full: set[int] = set()
        self._discarded: set[int] = set()
        self._checked: set[int] = set()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {key: self.__dict__[key] for key in ("_root", "_shards", "_cache", "_data_set")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def path(self, shard: int) -> str:
        """Where a shard is."""
        return posixpath.join(self._root, self._shards[shard].file)

    def listed(self, shard: int) -> Shard:
        """What the manifest says of a shard."""
        return self._shards[shard]

    @property
    def is_mapped(self) -> bool:
        """Whether shards are local files that are mapped where they are."""
        return self._cache is None and not is_remote(self._root)

    @property
    def has_files(self) -> bool:
        """Whether shards are local files or have copies, so that many readings of one cost one map."""
        return self._cache is not None or not is_remote(self._root)

    def file(self, shard: int) -> tuple[int, ...] | None:
        """Numbers that tell the local file that a shard was last read from from all others; None if there was none."""
        return self._found.get(shard)

    def read(self, shard: int, begin: int, end: int) -> U8:
        """The bytes of a shard from `begin` up to `end`, uint8; fewer where the file ends.

        Raises:
            ShardError: If the shard is missing, or is of another size than the manifest says.
        """
        content = self._map(shard)
        if content is not None:
            # A map of a file that was cut off since would end the process where it is read beyond its end.
            held = _map_of(content)
            if held is not None and held.size() < len(content):
                raise self._other(shard, held.size())
            return content[begin:end]
        return np.frombuffer(self._read_range(shard, begin, end), dtype=np.uint8)

    def find_pages(self, shard: int) -> None:
        """Finds all pages of a mapped shard at once: one after the other, as they are read, takes ten times as long."""
        content = self._map(shard)
        held = None if content is None else _map_of(content)
        if held is not None:
            with contextlib.suppress(OSError, AttributeError):  # not every system can
                held.madvise(MADV_POPULATE_READ)

    def _read_range(self, shard: int, begin: int, end: int) -> bytes:
        """Some bytes of a shard that is not local, whose size is compared once."""

        def ask() -> bytes:
            if shard not in self._checked:
                found = remote.size(self.path(shard))
                if found != self._shards[shard].bytes:
                    raise self._other(shard, found)
                self._checked.add(shard)
            return remote.read(self.path(shard), begin, end)

        return self._again(shard, ask)

    def is_local(self, shard: int) -> bool:
        """Whether the shard is a local file, or has a copy, so that bytes of it cost no request."""
        return self._map(shard) is not None

    def discard(self, shard: int) -> bool:
        """Removes the copy of a shard in which damaged bytes were found; whether to read it again.

        That is not so if there was no copy, or this was not the first one.
        """
        with self._lock:
            self._open.pop(shard, None)
            file = self._found.get(shard)
            if self._cache is None or file is None or shard in self._full | self._discarded:
                return False
            self._discarded.add(shard)
            if not self._cache.discard(self._data_set, self._shards[shard].file, inode=file[1]):
                self._full.add(shard)  # another user's copy stays, and is not used
            return True

    def error(self, shard: int, record: int | None, message: str) -> ShardError:
        """The error of a record."""
        return ShardError(self.path(shard), record, message)

    def _other(self, shard: int, found: int | Exception) -> ShardError:
        """The error of a shard that has another size, or that cannot be read."""
        message = f"expected a shard of {self._shards[shard].bytes} bytes; found {found}"
        return ShardError(self.path(shard), None, message, passing=not isinstance(found, (int, *MISSING)))

    def _again(self, shard: int, ask: Callable[[], T]) -> T:
        """What `ask` returns, which is tried again where it fails in a way that may pass."""
        for attempt in range(ATTEMPTS):
            try:
                return ask()
            except ShardError:
                raise
            except Exception as error:  # file systems raise their own
                if isinstance(error, MISSING) or attempt == ATTEMPTS - 1:
                    raise self._other(shard, error) from error
            time.sleep(FIRST_WAIT * 3**attempt)
        raise AssertionError

    def _map(self, shard: int) -> U8 | None:
        """The bytes of a shard, mapped or held; None where it has no local file."""
        if self._process != os.getpid():
            # A thread of the process that was forked may have held the lock.
            self._reset()
        if self._cache is None and is_remote(self._root):
            return None
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
        # Others may open or copy shards meanwhile.
        if self._cache is None:
            content = self._map_file(shard)
        else:
            copy = None if shard in self._full else self._map_copy(shard, self._cache)
            if copy is None:
                self._full.add(shard)  # to look for room for each chunk would take long
                self._found.pop(shard, None)
                return None if is_remote(self._root) else self._map_file(shard)
            content = copy
        with self._lock:
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)
            self._open[shard] = content
            return content

    def _map_file(self, shard: int) -> U8:
        at_once = getattr(os, "O_NONBLOCK", 0)  # a pipe, which has another size than a shard, is not waited for
        descriptor = self._again(shard, lambda: os.open(self.path(shard), os.O_RDONLY | at_once))
        return self._mapped(shard, descriptor, hold=self._shards[shard].bytes <= SMALL_BYTES)

    def _mapped(self, shard: int, descriptor: int, *, hold: bool = False) -> U8:
        """The map of a file, which is closed; or its content, to hold."""
        try:
            status = os.fstat(descriptor)
            found = status.st_size
            # A map of fewer bytes would end the process where it is read beyond them.
            if found != self._shards[shard].bytes:
                raise self._other(shard, found)
            self._found[shard] = (status.st_dev, status.st_ino, found, status.st_mtime_ns, status.st_ctime_ns)
            if hold:
                return np.frombuffer(os.pread(descriptor, found, 0), dtype=np.uint8)
            return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), dtype=np.uint8)
        except ShardError:
            raise
        except OSError as error:
            raise self._other(shard, error) from error
        finally:
            os.close(descriptor)

    def _map_copy(self, shard: int, cache: Cache) -> U8 | None:
        """The map of a shard's copy, which is made; None where there is no room."""
        descriptor = cache.open(
            self._data_set, self._shards[shard].file, self._shards[shard].bytes, lambda part: self._fetch(shard, part)
        )
        return None if descriptor is None else self._mapped(shard, descriptor)

    def _fetch(self, shard: int, part: int) -> None:
        """Copies a shard to a file that is open."""
        size = self._shards[shard].bytes
        content = None if is_remote(self._root) else self._map_file(shard)

        def copy(at: int) -> None:
            end = min(at + COPY_BYTES, size)
            piece = self._read_range(shard, at, end) if content is None else content[at:end].tobytes()
            if at + len(piece) != end:
                raise self._other(shard, at + len(piece))
            view = memoryview(piece)
            while view:
                written = os.pwrite(part, view, at)
                at, view = at + written, view[written:]

        with concurrent.futures.ThreadPoolExecutor(COPIES_AT_ONCE) as threads:
            for _ in threads.map(copy, range(0, size, COPY_BYTES)):
                pass


def _map_of(content: U8) -> mmap.mmap | None:
    """The map that bytes of a shard are a view of; None where they are held."""
    held = getattr(content.base, "obj", None)
    return held if isinstance(held, mmap.mmap) else None
