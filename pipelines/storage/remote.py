"""Files that are not local: read by ranges of bytes, several at a time, and written in parts."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from fsspec.implementations.arrow import ArrowFSWrapper

from pipelines import counters
from pipelines.storage.file_systems import ask, connect, is_object_store, naming_path
from pipelines.storage.retry import status_in

FIRST_AHEAD_BYTES, MOST_AHEAD_BYTES = 4 * 2**10, 4 * 2**20
"""What a request asks for at least: a header fits into the first, and four times as much is asked for as long as a file
is read on."""

READS_AT_ONCE = 16
"""Pieces of files that a process reads at a time: each waits tens of milliseconds for its first byte."""

PART_BYTES = 16 * 2**20
"""An object is sent in parts of this size, of which there may be 10,000, and in one piece if it is smaller."""

NOT_IN_FILE = 416
"""The status with which a store answers a request for bytes behind the end of a file."""

ReadTask = Callable[[], None]
"""Reads some of a file, while other threads may read other pieces of it."""


def read_range(path: str, start: int, stop: int) -> bytes:
    """The bytes `[start, stop)` of a file, with one request that `retrying` makes; fewer where it ends before."""

    def cut(system: Any, place: str) -> bytes:
        # Arrow's files cannot seek at their beginning unless that is asked for.
        seeks = {"seekable": True} if isinstance(system, ArrowFSWrapper) else {}
        return bytes(system.cat_file(place, start=start, end=stop, **seeks))

    try:
        data = ask(path, cut)
    except OSError as error:
        if status_in(error) != NOT_IN_FILE:
            raise
        data = b""
    counters.count(counters.BYTES_READ, len(data))
    return data


class RemoteFile(io.RawIOBase):
    """Reads like any file that can seek; not for several threads. Its size may be known."""

    def __init__(self, path: str, *, size: int | None = None) -> None:
        super().__init__()
        self._path = path
        self._size = size
        self._position = self._begin = 0
        self._ahead = FIRST_AHEAD_BYTES
        self._block = memoryview(b"")
        if size is None:
            self._fetch(0)

    @property
    def size(self) -> int:
        """The bytes of the whole file."""
        if self._size is None:
            self._size = int(ask(self._path, lambda system, place: system.info(place)["size"]))
        return self._size

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a place; nothing is asked for until it is read there."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = max(0, offset + (self.size if base is None else base))
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills some of a buffer from its beginning; returns how many bytes were read, 0 at the end of the file."""
        view = memoryview(buffer).cast("B")
        if not self._begin <= self._position < self._begin + len(self._block):
            self._fetch(len(view))
        at = self._position - self._begin
        found = self._block[at : at + len(view)]
        view[: len(found)] = found
        self._position += len(found)
        return len(found)

    def readall(self) -> bytes:
        """All that is left."""
        return b"".join(iter(lambda: self.read(MOST_AHEAD_BYTES), b""))

    def _fetch(self, count: int) -> None:
        """Reads on from the place that is wanted: more, where it lies behind what was read last."""
        if self._size is not None and self._position >= self._size:
            self._begin, self._block = self._position, memoryview(b"")
            return
        end = self._begin + len(self._block)
        self._ahead = min(4 * self._ahead, MOST_AHEAD_BYTES) if 0 < self._position == end else FIRST_AHEAD_BYTES
        asked = max(count, self._ahead)
        self._block = memoryview(read_range(self._path, self._position, self._position + asked))
        self._begin = self._position
        if len(self._block) < asked:
            self._size = self._begin + len(self._block) if self._block else self._size


class RemoteWriter:
    """A file that is being written, in one piece if it is small; one that is there is replaced.

    In an object store there is none until it is closed, nor where an error ends its writing.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._buffer = bytearray()
        self._file: Any = None
        self._open = True

    def write(self, data: bytes) -> int:
        """Appends bytes; what makes whole parts is sent."""
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            self._send(memoryview(self._buffer)[:PART_BYTES].tobytes())
            del self._buffer[:PART_BYTES]
        return len(data)

    def _send(self, data: bytes) -> None:
        counters.count(counters.REQUESTS)
        with naming_path(self._path):
            if self._file is None:
                system, place = connect(self._path, streams=True)
                if not is_object_store(self._path):
                    system.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._file = system.open(place, "wb", block_size=PART_BYTES)
            self._file.write(data)

    def close(self) -> None:
        """Makes the file appear."""
        if not self._open:
            return
        self._open = False
        if self._file is None:
            ask(self._path, self._put)
            return
        self._send(bytes(self._buffer))
        with naming_path(self._path):
            self._file.close()

    def _put(self, system: Any, place: str) -> None:
        if not is_object_store(self._path):
            system.makedirs(place.rpartition("/")[0], exist_ok=True)
        system.pipe_file(place, bytes(self._buffer))

    def discard(self) -> None:
        """Ends the writing; in an object store without an object."""
        if self._open and self._file is not None:
            with contextlib.suppress(OSError, AttributeError):  # the error that ended the writing says more
                self._file.discard()
        self.__del__()

    def __del__(self) -> None:
        """Keeps the file from appearing: fsspec closes what is forgotten."""
        if self._open and self._file is not None:
            with contextlib.suppress(AttributeError):
                self._file.closed = True
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close() if kind is None else self.discard()


def read_pieces(pieces: Iterable[ReadTask]) -> None:
    """Reads pieces of files in their order, several at a time, so that they wait together for their first bytes.

    No more are asked for than are begun, so there may be millions. Where one raises an error no other one is begun, and
    those that were have ended when it leaves this.
    """
    left = iter(pieces)
    asking, ended = threading.Lock(), threading.Event()

    def read_on(piece: ReadTask | None) -> Mapping[str, int]:
        with counters.gathering() as counts:
            try:
                while piece is not None and not ended.is_set():
                    with _turn(os.getpid()):
                        piece()
                    with asking:
                        piece = next(left, None)
            except BaseException:
                ended.set()
                raise
        return counts

    first = list(itertools.islice(left, READS_AT_ONCE))
    with ThreadPoolExecutor(max(1, len(first))) as threads:
        try:
            for counts in threads.map(read_on, first):
                for name, value in counts.items():
                    counters.count(name, value)
        finally:
            ended.set()


@functools.lru_cache(maxsize=1)
def _turn(_pid: int) -> threading.Semaphore:
    """What lets so many read at a time, whoever asks in this process: pieces take memory while they are read.

    A process that is forked while others read has its own.
    """
    return threading.Semaphore(READS_AT_ONCE)
