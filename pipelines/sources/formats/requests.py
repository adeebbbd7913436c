"""Bytes of files that are asked for, and how they are read: what lies near together in a remote file is one request."""

from __future__ import annotations

import dataclasses
import functools
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError, Problem
from pipelines.sources.formats import boxes
from pipelines.sources.formats.unchanged import check_size
from pipelines.sources.parts import SourceArray
from pipelines.storage import files
from pipelines.storage.remote import ReadTask

TOGETHER_BYTES = boxes.BUFFER_BYTES
"""The most of a remote file that one request reads for several; what is asked for alone is read whole."""


class Reader(Protocol):
    """A file that bytes are read from."""

    def seek(self, offset: int, /) -> int:
        """Goes to a place."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fills some of a buffer from its beginning."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """Bytes of a file that are read together.

    Attributes:
        place: Called with the bytes when they are there; they may lie elsewhere after the call. None leaves them.
        target: Where they go, if it matters.
        gap: How many bytes before them are read and dropped rather than that they are asked for separately. The blocks
            of a plan are long enough to be worth a request, the runs of a column are not.
    """

    offset: int
    size: int
    place: Callable[[npt.NDArray[np.uint8]], None] | None
    target: npt.NDArray[np.uint8] | None = None
    gap: int = 0

    @property
    def end(self) -> int:
        """Where the bytes end."""
        return self.offset + self.size


def fulfil(file: Reader, requests: Iterable[Request], source: SourceArray) -> None:
    """Reads what is asked for, one after the other; errors are those of `read_into`."""
    buffer = np.empty(0, np.uint8)
    for request in requests:
        target = request.target
        if target is None:
            if len(buffer) < request.size:
                buffer = np.empty(request.size, np.uint8)
            target = buffer[: request.size]
        file.seek(request.offset)
        read_into(file, target, source)
        if request.place is not None:
            request.place(target)


class Remote:
    """A source in a file that is not local. One of another size than it had is an error."""

    def __init__(self, path: str, source: SourceArray) -> None:
        self._path = path
        self._source = source
        self._asked = False

    def read(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Reads the bytes `[start, stop)` with one request."""
        # A byte more shows a file that has grown. Only where no request reaches its end one has to ask for the size.
        more = int(stop == self._source.size)
        if not (more or self._asked):
            self._asked = True
            check_size(files.size(self._path), self._path, self._source)
        data = np.frombuffer(files.read_range(self._path, start, stop + more), np.uint8)
        if len(data) != stop - start:
            check_size(files.size(self._path), self._path, self._source)
            raise _ended(self._source, stop - start - len(data))
        return data


def join_requests(remote: Remote, asked: Iterable[Iterable[Request]]) -> Iterator[ReadTask]:
    """What single requests to a remote file read, of all that is asked; both are in the order of the file."""
    # Merged as they come: a wide array that is read in many ranges has millions.
    for group in _groups(heapq.merge(*asked, key=lambda request: request.offset)):
        yield functools.partial(_read_group, remote, group)


def _read_group(remote: Remote, group: Sequence[Request]) -> None:
    """Reads with one request what several ask for."""
    first, end = group[0].offset, max(request.end for request in group)
    data = remote.read(first, end)
    for request in group:
        own = data[request.offset - first : request.end - first]
        if request.target is not None:
            np.copyto(request.target, own)
        if request.place is not None:
            request.place(own if request.target is None else request.target)


def _groups(requests: Iterable[Request]) -> Iterator[list[Request]]:
    """Puts together what one request can read: `requests` ascend, and may overlap."""
    group: list[Request] = []
    end = 0
    for request in requests:
        if group and (request.offset - end > request.gap or request.end - group[0].offset > TOGETHER_BYTES):
            yield group
            group, end = [], 0
        group.append(request)
        end = max(end, request.end)
    if group:
        yield group


def read_into(file: Reader, target: npt.NDArray[np.uint8], source: SourceArray) -> None:
    """Fills `target` from where the file stands; a compressed member gives fewer bytes at a time.

    A file that ends before is a DataError.
    """
    view = target.data
    while view.nbytes:
        count = file.readinto(view)
        if not count:
            raise _ended(source, view.nbytes)
        view = view[count:]


def _ended(source: SourceArray, missing: int) -> DataError:
    found = f"the end of the file {missing} bytes before the end of the rows"
    return DataError(str(Problem(path=source.path, expected=f"{source.size} bytes", found=found)))
