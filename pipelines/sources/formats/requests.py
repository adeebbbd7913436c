"""Bytes of files that are asked for, and how they are read: what lies near together in a remote file is one request."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError, Problem
from pipelines.sources.formats import boxes
from pipelines.sources.formats.unchanged import check_size
from pipelines.sources.parts import Source
from pipelines.storage.range_file import Piece, RangeFile

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
        offset: Where they begin.
        size: How many there are.
        place: Called with the bytes when they are there; they may lie elsewhere after the call.
        target: Where they go, if it matters.
        gap: How many bytes before them are read and dropped rather than that they are asked for separately. The blocks
            of a plan are long enough to be worth a request, the runs of a column are not.
    """

    offset: int
    size: int
    place: Callable[[npt.NDArray[np.uint8]], None]
    target: npt.NDArray[np.uint8] | None = None
    gap: int = 0

    @property
    def end(self) -> int:
        """Where the bytes end."""
        return self.offset + self.size


def fulfil(file: Reader, requests: Iterable[Request], source: Source) -> None:
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
        request.place(target)


def join_requests(path: str, asked: Iterable[Iterable[Request]], source: Source) -> Iterator[Piece]:
    """Puts together what is asked of a remote file.

    Args:
        path: The file.
        asked: Some sequences of requests, each in the order of the file.
        source: What is read of it.

    Yields:
        What one request to the file reads, in the order of the file.
    """
    # Merged as they come: a wide array that is read in many ranges has millions.
    for group in _groups(heapq.merge(*asked, key=lambda request: request.offset)):
        yield path, functools.partial(_read_group, path, group, source)


def _read_group(path: str, group: Sequence[Request], source: Source, file: RangeFile) -> None:
    """Reads with one request what several ask for."""
    first, end = group[0].offset, max(request.end for request in group)
    file.will_read(first, end)
    check_size(file.size, path, source)
    if all(before.end <= after.offset for before, after in itertools.pairwise(group)):
        fulfil(file, group, source)
        return
    data = np.empty(end - first, np.uint8)
    file.seek(first)
    read_into(file, data, source)
    for request in group:
        own = data[request.offset - first : request.end - first]
        if request.target is not None:
            np.copyto(request.target, own)
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


def read_into(file: Reader, target: npt.NDArray[np.uint8], source: Source) -> None:
    """Fills `target` from where the file stands; a remote file may give fewer bytes at a time.

    Raises:
        DataError: If the file ends before.
        OSError: If it cannot be read.
    """
    view = target.data
    while view.nbytes:
        count = file.readinto(view)
        if not count:
            found = f"the end of the file {view.nbytes} bytes before the end of the rows"
            raise DataError(str(Problem(path=source.path, expected=f"{source.size} bytes", found=found)))
        view = view[count:]
