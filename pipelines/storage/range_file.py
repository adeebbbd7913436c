"""Files that are not local, read by ranges of bytes: few requests, several at a time, tried again, and counted."""

from __future__ import annotations

import functools
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipelines import counters
from pipelines.storage.retry import retrying
from pipelines.storage.stores import Opened, Part, Store

FIRST_AHEAD_BYTES, MOST_AHEAD_BYTES = 4 * 2**10, 8 * 2**20
"""What a request asks for at least: a header fits into the first, and four times as much is asked for as long as a file
is read on. What was asked for comes as it is read, so this is not memory."""

SKIPPED_BYTES = 256 * 2**10
"""Bytes of an answer that are read and dropped rather than asked for anew: a request to an object store takes tens of
milliseconds, and this much takes a few."""

READS_AT_ONCE = 16
"""Pieces of files that a process reads at a time: each waits tens of milliseconds for its first byte."""

Piece = tuple[str, Callable[["RangeFile"], None]]
"""The path of a file, and what reads some of it, while other threads may read other pieces of it."""


class RangeFile(io.RawIOBase):
    """Reads like any file that can seek; not for several threads.

    Args:
        store: The file system.
        path: The file.
        exact: Whether each request is for what is read, or what `will_read` announced, and no more.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, store: Store, path: str, *, exact: bool) -> None:
        super().__init__()
        self._store = store
        self._path = path
        self._exact = exact
        self._opened: Opened | None = None
        self._part: Part | None = None
        self._size: int | None = None
        self._position = self._reached = 0
        self._stop = -1
        self._ahead = FIRST_AHEAD_BYTES
        self._announced = (0, 0)
        if not exact:
            self._try(self._find)

    def will_read(self, start: int, stop: int) -> None:
        """Announces that these bytes will be read, in their order, so that one request asks for all of them."""
        self._announced = (start, stop)

    @property
    def size(self) -> int:
        """The bytes of the whole file; known from the first answer, which this waits for."""
        if self._size is None:
            self._try(self._find)
        assert self._size is not None
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
        """Fills some of a buffer from its beginning.

        Returns:
            How many bytes were read; 0 at the end of the file.

        Raises:
            OSError: If it cannot be read, after as many attempts as `retrying` makes.
        """
        view = memoryview(buffer).cast("B")
        count = self._try(lambda: self._read(view)) if view.nbytes else 0
        self._position += count
        return count

    def readall(self) -> bytes:
        """All that is left, with one request."""
        left = max(self.size - self._position, 0)
        self.will_read(self._position, self.size)
        data, done = bytearray(left), 0
        while done < left:
            count = self.readinto(memoryview(data)[done:])
            if not count:
                break
            done += count
        return bytes(data[:done])

    def close(self) -> None:
        """Ends the connection."""
        if not self.closed:
            self._drop()
        super().close()

    def _try(self, attempt: Any) -> Any:
        """`retrying`, with a new connection for each attempt."""

        def once() -> Any:
            try:
                return attempt()
            except Exception:
                self._drop()
                raise

        return retrying(once)

    def _find(self) -> None:
        """Learns the size, and that the file is there."""
        start, stop = self._announced
        if stop > start or not self._exact:
            self._request(start, stop if self._exact else start + FIRST_AHEAD_BYTES)
        else:
            self._size = self._open().size()

    def _open(self) -> Opened:
        if self._opened is None:
            self._opened = self._store.open(self._path, exact=self._exact)
        return self._opened

    def _read(self, view: memoryview) -> int:
        if self._size is not None and self._position >= self._size:
            return 0
        if not self._skip():
            self._request(self._position, self._position + view.nbytes)
        if self._part is None or self._reached >= self._stop:
            return 0
        count = self._part.readinto(view[: self._stop - self._reached])
        self._reached += count
        counters.count(counters.BYTES_READ, count)
        return count

    def _skip(self) -> bool:
        """Whether the answer that is being read holds what is wanted; what lies before it is dropped."""
        if self._part is None or not self._reached <= self._position < self._stop:
            return False
        gap = self._position - self._reached
        if gap > SKIPPED_BYTES:
            return False
        scratch = memoryview(bytearray(gap))
        while gap:
            count = self._part.readinto(scratch[:gap])
            if not count:
                return False
            gap -= count
            self._reached += count
            counters.count(counters.BYTES_READ, count)
        return True

    def _request(self, start: int, stop: int) -> None:
        first, last = self._announced
        if first <= start < last:
            stop = max(stop, last)
        elif not self._exact:
            self._ahead = min(4 * self._ahead, MOST_AHEAD_BYTES) if start == self._stop else FIRST_AHEAD_BYTES
            stop = max(stop, start + self._ahead)
        self._end_part()
        part = self._open().request(start, stop)
        self._part, self._size = part, part.size
        self._reached, self._stop = start, min(stop, part.size)

    def _end_part(self) -> None:
        if self._part is not None:
            self._part.close()
        self._part = None

    def _drop(self) -> None:
        """Gives up the answer and the connection."""
        self._end_part()
        if self._opened is not None:
            self._opened.close()
        self._opened = None


def read_pieces(pieces: Iterable[Piece], open_file: Callable[[str], RangeFile]) -> None:
    """Reads pieces of files in their order, several at a time, so that they wait together for their first bytes.

    Args:
        pieces: What is read. No more are asked for than are begun, so there may be millions.
        open_file: Opens a file by its path. Each thread has its own, for as long as its pieces are of one path.

    Raises:
        Exception: One that a piece has raised. No other one is begun then, and those that were have ended.
    """
    left = iter(pieces)
    taking, ended = threading.Lock(), threading.Event()

    def after(piece: Piece) -> Iterator[Piece]:
        yield piece
        while not ended.is_set():
            with taking:
                found = next(left, None)
            if found is None:
                return
            yield found

    def read_on(piece: Piece) -> Mapping[str, int]:
        with counters.gathering() as counts:
            try:
                for path, some in itertools.groupby(after(piece), key=lambda piece: piece[0]):
                    with taking:  # the first file that a process opens may take it long
                        file = open_file(path)
                    with file:
                        for _, read in some:
                            with _turn(os.getpid()):
                                read(file)
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
