"""Reads rows of sources by range, never a whole file.

Rows that lie together are read straight into their place. Fortran-ordered arrays are mapped where the file is local,
and gathered from byte ranges where it is remote. Compressed members are read forward.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import heapq
import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines import files
from pipelines.errors import DataError, Problem
from pipelines.range_file import RangeFile
from pipelines.reading import boxes
from pipelines.reading.boxes import Array, Box
from pipelines.sources.npy import NpyError, leaves, record_dtype
from pipelines.sources.npz import MemberStream, streams
from pipelines.sources.table import Source

MAPPED_BYTES = 256 * 2**20
"""About the most of a file that is mapped at a time: what is mapped and was touched counts as memory of the process."""

SMALL_BYTES = 64 * 2**10
"""Less than this is read rather than mapped: a mapping would take longer than the bytes."""

TOGETHER_BYTES = 2 * boxes.BUFFER_BYTES
"""The most of a remote file that one request reads for several; what is asked for alone is read whole."""

SWAPPED_BYTES = 128 * 2**10
"""What is put into this machine's byte order at a time, so that NumPy's copy of it stays in the cache."""

Range = tuple[Sequence["Wanted"], int, int]
"""What is wanted, the first row, and one more than the last row, which are within the rows of each source."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """The rows of one source, and where they go.

    Attributes:
        source: The source.
        row_axes: How many leading axes of its array count rows; 0 where the array is one row.
        out: Where the rows go, [rows, *row shape]: C-contiguous, of the dtype of the values.
    """

    source: Source
    row_axes: int
    out: Array


class _Reader(Protocol):
    def seek(self, offset: int, /) -> int: ...
    def readinto(self, buffer: Any, /) -> int | None: ...


def value_dtype(source: Source) -> np.dtype[Any]:
    """The dtype in which the values of a source are read: this machine's byte order, times as int64."""
    dtype = np.dtype(source.dtype)
    return np.dtype(np.int64) if dtype.kind in "mM" else dtype.newbyteorder("=")


def read_together(root: str, wanted: Sequence[Wanted], start: int, stop: int) -> None:
    """Reads the same rows of several sources that lie in one file: `read_ranges` of one range."""
    read_ranges(root, [(wanted, start, stop)])


def read_ranges(root: str, ranges: Sequence[Range]) -> None:
    """Reads rows of sources that lie in one file, which is opened once.

    Fields of one table that are wanted of the same rows are read together: their records are read once. Ranges of one
    Fortran-ordered array share its mapping: rows of several row axes may touch every page of the file, and then to
    map it takes longer than to copy the rows.

    Args:
        root: The directory of the sources.
        ranges: What is read, all of one path, and where it goes.

    Raises:
        DataError: If the file is not of the size that it had when the sources were checked, or cannot be unpacked.
        OSError: If the file cannot be read.
    """
    tables = [table for wanted, start, stop in ranges for table in _tables(wanted, start, stop)]
    source = tables[0].source
    path = files.locate(root, source.path)
    try:
        if all(table.source.compressed for table in tables):
            for table in tables:
                _read_compressed(path, table)
        elif files.is_local(path):
            _read_local(path, tables)
        else:
            with files.open_ranges(path) as file:
                _read_remote(file, path, tables)
    except NpyError as error:
        raise DataError(str(Problem(path=path, expected=error.expected, found=error.found))) from None


def _check_size(size: int, path: str, source: Source) -> None:
    if size != source.size:
        expected = f"{source.size} bytes, as when the sources were checked"
        raise DataError(str(Problem(path=path, expected=expected, found=f"{size} bytes: the file has changed")))


def _check_status(status: os.stat_result, path: str, source: Source) -> None:
    _check_size(status.st_size, path, source)
    if status.st_mtime != source.modified:
        expected = f"a file last changed at {_show_time(source.modified)}, as when the sources were checked"
        raise DataError(str(Problem(path=path, expected=expected, found=_show_time(status.st_mtime))))


def _show_time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="milliseconds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Field:
    """Values of each element of an array: all of it, or a field. `dtype` is theirs in the file, times as int64."""

    path: tuple[str, ...]
    dtype: np.dtype[Any]
    out: Array

    def put(self, start: int, lengths: Sequence[int], inner: Box, elements: Array) -> None:
        """Copies the values of `elements`, which lie at `inner` of the box of `lengths` rows from row `start`."""
        target = self.out[start : start + math.prod(lengths)].reshape(*lengths, *self.out.shape[1:])
        values = elements
        for name in self.path:
            values = values[name]
        values = values.view(self.dtype) if values.dtype.kind in "mM" else values
        target = target[inner]
        for tile in boxes.tiles(elements):
            np.copyto(target[tile], values[tile])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Table:
    """An array in a file, of numbers or of records, and what is wanted of the elements of its rows `[start, stop)`."""

    source: Source
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    row_axes: int
    start: int
    stop: int
    fields: tuple[_Field, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to read."""
        return self.start == self.stop or 0 in self.shape

    @property
    def scattered(self) -> bool:
        """Whether the values of a row lie apart."""
        return self.source.fortran and len(self.shape) > 1

    def _boxes(self) -> Iterator[tuple[int, Box]]:
        """The boxes of the rows, over all axes of the array, each with the number of rows before it."""
        done = 0
        for box in boxes.of_range(self.shape[: self.row_axes], self.start, self.stop):
            yield done, (*box, *(slice(0, length) for length in self.shape[self.row_axes :]))
            done += math.prod(axis.stop - axis.start for axis in box)

    def copy(self, window: Array, first: int) -> None:
        """Copies what is wanted from `window`: the part of a Fortran-ordered array from `first` on of its last axis."""
        for done, box in self._boxes():
            low, high = max(box[-1].start, first), min(box[-1].stop, first + window.shape[-1])
            if low < high:
                elements = window[(*box[:-1], slice(low - first, high - first))]
                self._put(done, box, (*box[:-1], slice(low, high)), elements)

    def _put(self, done: int, box: Box, part: Box, elements: Array) -> None:
        """Copies the values of `elements`, which are a part of a box that has `done` rows before it."""
        lengths = [axis.stop - axis.start for axis in box[: self.row_axes]]
        inner = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
        for field in self.fields:
            field.put(done, lengths, inner, elements)

    def read(self, file: _Reader) -> None:
        """Reads rows by byte ranges, which ascend where the rows lie together."""
        if not self.empty:
            _fulfil(file, itertools.chain.from_iterable(self.requests()), self.source)

    def requests(self) -> Iterator[Iterator[_Request]]:
        """What is asked of the file: some sequences, each in the order of the file."""
        if self.scattered:
            yield from (self._of_columns(done, box) for done, box in self._boxes())
        else:
            yield self._of_records() if self.source.record else self._of_numbers()

    def _of_numbers(self) -> Iterator[_Request]:
        """Rows of numbers that lie together are read straight into their place."""
        (field,) = self.fields
        values = field.out.reshape(-1)
        offset = self.source.offset + self.start * (field.out.nbytes // len(field.out))
        place = _leave if field.dtype.isnative else functools.partial(_swap, field.dtype)
        yield _Request(offset=offset, size=field.out.nbytes, target=values.view(np.uint8), place=place)

    def _of_records(self) -> Iterator[_Request]:
        """Rows of records that lie together, some at a time."""
        shape = self.shape[self.row_axes :]
        row_bytes = math.prod(shape) * self.dtype.itemsize
        step = max(1, boxes.BUFFER_BYTES // row_bytes)
        for first in range(self.start, self.stop, step):
            lengths = (min(step, self.stop - first), *shape)
            place = functools.partial(self._put_records, first - self.start, lengths)
            yield _Request(offset=self.source.offset + first * row_bytes, size=lengths[0] * row_bytes, place=place)

    def _put_records(self, done: int, lengths: tuple[int, ...], data: npt.NDArray[np.uint8]) -> None:
        elements: Array = np.ndarray(lengths, self.dtype, buffer=data.data)
        for field in self.fields:
            field.put(done, lengths[:1], (), elements)

    def _of_columns(self, done: int, box: Box) -> Iterator[_Request]:
        """Rows of a box, `done` before it, that are gathered from the columns of the file."""
        itemsize = self.dtype.itemsize
        strides = boxes.fortran_strides(self.shape, itemsize)
        for part in boxes.requests(self.shape, box, itemsize):
            lengths = tuple(axis.stop - axis.start for axis in part)
            first = sum(axis.start * stride for axis, stride in zip(part, strides, strict=True))
            yield _Request(
                offset=self.source.offset + first,
                size=boxes.extent(lengths, strides, itemsize),
                place=functools.partial(self._put_columns, done, box, part, lengths, strides),
                gap=boxes.GAP_BYTES,
            )

    def _put_columns(
        self,
        done: int,
        box: Box,
        part: Box,
        lengths: tuple[int, ...],
        strides: tuple[int, ...],
        data: npt.NDArray[np.uint8],
    ) -> None:
        self._put(done, box, part, np.ndarray(lengths, self.dtype, buffer=data.data, strides=strides))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Request:
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


def _leave(_: npt.NDArray[np.uint8]) -> None:
    """Leaves values as they are in the file."""


def _fulfil(file: _Reader, requests: Iterable[_Request], source: Source) -> None:
    """Reads what is asked for, one after the other."""
    buffer = np.empty(0, np.uint8)
    for request in requests:
        target = request.target
        if target is None:
            if len(buffer) < request.size:
                buffer = np.empty(request.size, np.uint8)
            target = buffer[: request.size]
        file.seek(request.offset)
        _read_into(file, target, source)
        request.place(target)


def _read_remote(file: RangeFile, path: str, tables: Sequence[_Table]) -> None:
    """Reads what is asked of a file by all that is read of it now: what lies near together is one request."""
    checked = False
    # Merged as they come: a wide array that is read in many ranges has millions.
    asked = [each for table in tables if not table.empty for each in table.requests()]
    for group in _groups(heapq.merge(*asked, key=lambda request: request.offset)):
        first, end = group[0].offset, max(request.end for request in group)
        file.will_read(first, end)
        if not checked:
            _check_size(file.size, path, tables[0].source)
            checked = True
        if all(before.end <= after.offset for before, after in itertools.pairwise(group)):
            _fulfil(file, group, tables[0].source)
            continue
        data = np.empty(end - first, np.uint8)
        file.seek(first)
        _read_into(file, data, tables[0].source)
        for request in group:
            own = data[request.offset - first : request.end - first]
            if request.target is not None:
                np.copyto(request.target, own)
            request.place(own if request.target is None else request.target)


def _groups(requests: Iterable[_Request]) -> Iterator[list[_Request]]:
    """Puts together what one request can read: `requests` ascend, and may overlap."""
    group: list[_Request] = []
    end = 0
    for request in requests:
        if group and (request.offset - end > request.gap or request.end - group[0].offset > TOGETHER_BYTES):
            yield group
            group, end = [], 0
        group.append(request)
        end = max(end, request.end)
    if group:
        yield group


def _tables(wanted: Sequence[Wanted], start: int, stop: int) -> list[_Table]:
    """The arrays that hold what is wanted; the fields of one array are together."""
    groups: dict[tuple[str, int], list[Wanted]] = {}
    for one in wanted:
        # Several features may be one plain array, but each goes to its own place.
        key = one.source.member if one.source.record else f"{one.source.member}/{len(groups)}"
        groups.setdefault((key, one.row_axes), []).append(one)
    return [_table(group, start, stop) for group in groups.values()]


def _table(wanted: Sequence[Wanted], start: int, stop: int) -> _Table:
    source, axes = wanted[0].source, wanted[0].row_axes
    if source.record:
        dtype = record_dtype(source.record)
        paths = {leaf.name: leaf.path for leaf in leaves(dtype)}
        added = next(len(leaf.shape) for leaf in leaves(dtype) if leaf.name == source.field)
    else:
        dtype, paths, added = _as_integer(np.dtype(source.dtype)), {source.field: ()}, 0
    shape = source.shape[: len(source.shape) - added]
    return _Table(
        source=source,
        dtype=dtype,
        # An array that is one row has one row axis more than it has axes.
        shape=shape if axes else (1, *shape),
        row_axes=max(1, axes),
        start=start,
        stop=stop,
        fields=tuple(
            _Field(path=paths[one.source.field], dtype=_as_integer(np.dtype(one.source.dtype)), out=one.out)
            for one in wanted
        ),
    )


def _as_integer(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The integers in which times are kept, in the same byte order."""
    return np.dtype(np.int64).newbyteorder(dtype.byteorder) if dtype.kind in "mM" else dtype


def _read_local(path: str, tables: Sequence[_Table]) -> None:
    scattered: dict[tuple[str, int], list[_Table]] = {}
    with open(path, "rb", buffering=0) as file:
        _check_status(os.fstat(file.fileno()), path, tables[0].source)
        for table in tables:
            if table.empty:
                continue
            if table.source.compressed:
                _read_compressed(path, table)
            elif table.scattered:
                scattered.setdefault((table.source.member, table.row_axes), []).append(table)
            else:
                table.read(file)
        for together in scattered.values():
            _read_mapped(file, together)


def _read_mapped(file: io.FileIO, tables: Sequence[_Table]) -> None:
    """Copies rows of one Fortran-ordered array from mappings of its parts, one after the other."""
    shape, dtype = tables[0].shape, tables[0].dtype
    plane = math.prod(shape[:-1]) * dtype.itemsize
    step = max(1, MAPPED_BYTES // plane)
    for first in range(0, shape[-1], step):
        lengths = (*shape[:-1], min(step, shape[-1] - first))
        offset = tables[0].source.offset + first * plane
        window: Array
        if lengths[-1] * plane < SMALL_BYTES:
            window = np.empty(lengths, dtype, order="F")
            file.seek(offset)
            _read_into(file, window.reshape(-1, order="F").view(np.uint8), tables[0].source)
        else:
            window = np.asarray(np.memmap(file, dtype, "r", offset, lengths, "F"))  # a plain array is cut faster
        for table in tables:
            table.copy(window, first)


def _swap(dtype: np.dtype[Any], data: npt.NDArray[np.uint8]) -> None:
    """Gives values, read as they are in the file, this machine's byte order; `byteswap` would take twice as long."""
    values = data.view(dtype.newbyteorder("="))
    step = max(1, SWAPPED_BYTES // dtype.itemsize)
    for first in range(0, len(values), step):
        some = values[first : first + step]
        np.copyto(some, some.view(dtype))


def _read_compressed(path: str, table: _Table) -> None:
    """Reads on in a stream that another read has left open, or in a new one."""
    source = table.source
    if files.is_local(path):
        _check_status(os.stat(path), path, source)
    key = (path, source.member, source.size, source.modified)
    stream = streams.take(key)
    if stream is None:
        stream = MemberStream(path, source.member)
    try:
        _check_size(stream.size, path, source)
        table.read(stream)
    except BaseException:
        stream.close()
        raise
    streams.give(key, stream)


def _read_into(file: _Reader, target: npt.NDArray[np.uint8], source: Source) -> None:
    """Fills `target` from where the file stands; a remote file may give fewer bytes at a time."""
    view = target.data
    while view.nbytes:
        count = file.readinto(view)
        if not count:
            found = f"the end of the file {view.nbytes} bytes before the end of the rows"
            raise DataError(str(Problem(path=source.path, expected=f"{source.size} bytes", found=found)))
        view = view[count:]
