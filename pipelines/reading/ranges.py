"""Reads rows of sources by range, never a whole file.

Small local files are read in one go, others through mmap, remote files by byte ranges, compressed members forward.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from pipelines import files
from pipelines.errors import DataError, Problem
from pipelines.sources.npy import NpyError, leaves, record_dtype
from pipelines.sources.npz import MemberStream, streams
from pipelines.sources.table import Source

Array = npt.NDArray[Any]
Box = tuple[slice, ...]

BUFFER_BYTES = 4 * 2**20
"""The most that one request for a part of a Fortran-ordered file, or for the records of a table, reads."""

GAP_BYTES = 256 * 2**10
"""Bytes that are read and dropped rather than asked for separately: a request to an object store takes tens of
milliseconds, and this much takes a few."""

SMALL_BYTES = 64 * 2**10
"""Local files below this are read whole: a mapping would take longer than the bytes."""


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
    """Reads the same rows of several sources that lie in one file, which is opened once.

    Fields of one table are read together: their records are read once.

    Args:
        root: The directory of the sources.
        wanted: What is read, all of one path, and where it goes.
        start: The first row.
        stop: One more than the last row; the range is within the rows of each source.

    Raises:
        DataError: If the file is not of the size that it had when the sources were checked, or cannot be unpacked.
        OSError: If the file cannot be read.
    """
    first = wanted[0].source
    path = files.locate(root, first.path)
    tables = _tables(wanted)
    try:
        if all(table.source.compressed for table in tables):
            for table in tables:
                _read_compressed(path, table, start, stop)
        elif files.is_local(path):
            _read_local(path, tables, start, stop)
        else:
            with files.open_input(path) as file:
                _check_size(file.seek(0, os.SEEK_END), path, first)
                for table in tables:
                    table.read(cast(_Reader, file), start, stop)
    except NpyError as error:
        raise DataError(str(Problem(path=path, expected=error.expected, found=error.found))) from None


def boxes(shape: tuple[int, ...], start: int, stop: int) -> list[Box]:
    """Cuts a range of flat indices, in C order, into boxes.

    Args:
        shape: The axes that are counted, at least one.
        start: The first flat index.
        stop: One more than the last flat index.

    Returns:
        At most `2 * len(shape) - 1` boxes; their elements, each box in C order, are the range in order.
    """
    if start >= stop:
        return []
    if len(shape) == 1:
        return [(slice(start, stop),)]
    step = math.prod(shape[1:])
    first, head = divmod(start, step)
    last, tail = divmod(stop, step)
    if first == last:
        return [(slice(first, first + 1), *box) for box in boxes(shape[1:], head, tail)]
    found: list[Box] = []
    if head:
        found += [(slice(first, first + 1), *box) for box in boxes(shape[1:], head, step)]
        first += 1
    if first < last:
        found.append((slice(first, last), *(slice(0, length) for length in shape[1:])))
    return found + [(slice(last, last + 1), *box) for box in boxes(shape[1:], 0, tail)]


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
        np.copyto(target[inner], values.view(self.dtype) if values.dtype.kind in "mM" else values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Table:
    """An array in a file, of numbers or of records, and what is wanted of its elements."""

    source: Source
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    row_axes: int
    fields: tuple[_Field, ...]

    def copy(self, elements: Array, start: int, stop: int) -> None:
        """Copies rows from the whole array, in memory or mapped."""
        for done, box in self._boxes(start, stop):
            lengths = [axis.stop - axis.start for axis in box[: self.row_axes]]
            for field in self.fields:
                field.put(done, lengths, (), elements[box])

    def _boxes(self, start: int, stop: int) -> Iterator[tuple[int, Box]]:
        """The boxes of a range of rows, over all axes of the array, each with the number of rows before it."""
        done = 0
        for box in boxes(self.shape[: self.row_axes], start, stop):
            yield done, (*box, *(slice(0, length) for length in self.shape[self.row_axes :]))
            done += math.prod(axis.stop - axis.start for axis in box)

    def read(self, file: _Reader, start: int, stop: int) -> None:
        """Reads rows by byte ranges, which ascend where the rows lie together."""
        if start == stop or 0 in self.shape:
            return
        if self.source.fortran and len(self.shape) > 1:
            self._read_fortran(file, start, stop)
        elif self.source.record:
            self._read_records(file, start, stop)
        else:
            self._read_contiguous(file, start)

    def _read_contiguous(self, file: _Reader, start: int) -> None:
        """Reads rows of numbers that lie together straight into their place."""
        (field,) = self.fields
        file.seek(self.source.offset + start * (field.out.nbytes // len(field.out)))
        _read_into(file, field.out.reshape(-1).view(np.uint8), self.source)
        if not field.dtype.isnative:
            field.out.byteswap(inplace=True)

    def _read_records(self, file: _Reader, start: int, stop: int) -> None:
        """Reads rows of records that lie together, some at a time."""
        shape = self.shape[self.row_axes :]
        row_bytes = math.prod(shape) * self.dtype.itemsize
        step = max(1, BUFFER_BYTES // row_bytes)
        records = np.empty((min(step, stop - start), *shape), self.dtype)
        file.seek(self.source.offset + start * row_bytes)
        for first in range(start, stop, step):
            some = records[: min(step, stop - first)]
            _read_into(file, some.reshape(-1).view(np.uint8), self.source)
            for field in self.fields:
                field.put(first - start, (len(some),), (), some)

    def _read_fortran(self, file: _Reader, start: int, stop: int) -> None:
        """Gathers rows from the columns of the file, one request at a time."""
        itemsize = self.dtype.itemsize
        strides = _fortran_strides(self.shape, itemsize)
        largest = itemsize * math.prod(self.shape)
        buffer = np.empty(min(max(BUFFER_BYTES, itemsize), largest), np.uint8)
        for done, box in self._boxes(start, stop):
            rows = [axis.stop - axis.start for axis in box[: self.row_axes]]
            for request in requests(self.shape, box, itemsize):
                lengths = tuple(axis.stop - axis.start for axis in request)
                first = sum(axis.start * stride for axis, stride in zip(request, strides, strict=True))
                file.seek(self.source.offset + first)
                _read_into(file, buffer[: _extent(lengths, strides, itemsize)], self.source)
                elements: Array = np.ndarray(lengths, self.dtype, buffer=buffer.data, strides=strides)
                inner = tuple(
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip(request, box, strict=True)
                )
                for field in self.fields:
                    field.put(done, rows, inner, elements)


def _tables(wanted: Sequence[Wanted]) -> list[_Table]:
    """The arrays that hold what is wanted; the fields of one array are together."""
    groups: dict[tuple[str, int], list[Wanted]] = {}
    for one in wanted:
        # Several features may be one plain array, but each goes to its own place.
        key = one.source.member if one.source.record else f"{one.source.member}/{len(groups)}"
        groups.setdefault((key, one.row_axes), []).append(one)
    return [_table(group) for group in groups.values()]


def _table(wanted: Sequence[Wanted]) -> _Table:
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
        fields=tuple(
            _Field(path=paths[one.source.field], dtype=_as_integer(np.dtype(one.source.dtype)), out=one.out)
            for one in wanted
        ),
    )


def _as_integer(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The integers in which times are kept, in the same byte order."""
    return np.dtype(np.int64).newbyteorder(dtype.byteorder) if dtype.kind in "mM" else dtype


def _read_local(path: str, tables: Sequence[_Table], start: int, stop: int) -> None:
    """Copies from a small file read whole, or from a mapping for this read only, so that its pages are let go."""
    source = tables[0].source
    with open(path, "rb", buffering=0) as file:
        _check_status(os.fstat(file.fileno()), path, source)
        if start == stop:
            return
        content: Array | None = None
        for table in tables:
            if table.source.compressed:
                _read_compressed(path, table, start, stop)
            elif 0 not in table.shape:
                if content is None:
                    content = _content(file, source)
                order: Any = "F" if table.source.fortran else "C"
                elements: Array = np.ndarray(table.shape, table.dtype, content, table.source.offset, order=order)
                table.copy(elements, start, stop)


def _content(file: Any, source: Source) -> Array:
    if source.size >= SMALL_BYTES:
        return np.memmap(file, np.uint8, mode="r", shape=(source.size,))
    content = np.empty(source.size, np.uint8)
    _read_into(file, content, source)
    return content


def _read_compressed(path: str, table: _Table, start: int, stop: int) -> None:
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
        table.read(stream, start, stop)
    except BaseException:
        stream.close()
        raise
    streams.give(key, stream)


def _fortran_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[:axis]) for axis in range(len(shape)))


def _extent(lengths: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> int:
    """The bytes from the first element of a box to the end of its last."""
    return itemsize + sum((length - 1) * stride for length, stride in zip(lengths, strides, strict=True))


def requests(shape: tuple[int, ...], box: Box, itemsize: int) -> Iterator[Box]:
    """Cuts a box of a Fortran-ordered array into boxes that one request each can read.

    Args:
        shape: The shape of the array.
        box: The part of it that is wanted, not empty.
        itemsize: The bytes of an element.

    Yields:
        Boxes that together are `box`, in the order of the file. Each extends over at most `BUFFER_BYTES`, and holds no
        gap of more than `GAP_BYTES`.
    """
    strides = _fortran_strides(shape, itemsize)
    lengths = tuple(axis.stop - axis.start for axis in box)
    slowest = max((axis for axis, length in enumerate(lengths) if length > 1), default=None)
    if slowest is None:
        yield box
        return
    stride = strides[slowest]
    inner = _extent(lengths[:slowest], strides[:slowest], itemsize)
    # Axes that lie inside have smaller gaps than this one, but not always small ones.
    gaps = [stride - inner] + [
        strides[axis] - _extent(lengths[:axis], strides[:axis], itemsize)
        for axis, length in enumerate(lengths[:slowest])
        if length > 1
    ]
    step = 1 if max(gaps) > GAP_BYTES else max(1, (BUFFER_BYTES - inner) // stride + 1)
    if step >= lengths[slowest]:
        yield box
        return
    whole = box[slowest]
    for first in range(whole.start, whole.stop, step):
        cut = slice(first, min(first + step, whole.stop))
        yield from requests(shape, (*box[:slowest], cut, *box[slowest + 1 :]), itemsize)


def _read_into(file: _Reader, target: npt.NDArray[np.uint8], source: Source) -> None:
    """Fills `target` from where the file stands; a remote file may give fewer bytes at a time."""
    view = target.data
    while view.nbytes:
        count = file.readinto(view)
        if not count:
            found = f"the end of the file {view.nbytes} bytes before the end of the rows"
            raise DataError(str(Problem(path=source.path, expected=f"{source.size} bytes", found=found)))
        view = view[count:]
