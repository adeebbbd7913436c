"""Reads rows of sources by range, never a whole file.

Rows that lie together are read straight into their place. Fortran-ordered arrays are mapped where the file is local,
and gathered from byte ranges where it is remote. Compressed members are read forward.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import io
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError, Problem
from pipelines.reading import boxes
from pipelines.reading.boxes import Array, Box
from pipelines.reading.requests import TOGETHER_BYTES, Reader, Request, check_size, fulfil, pieces, read_into
from pipelines.sources.formats.npy import NpyError, leaves, record_dtype
from pipelines.sources.formats.npz import MemberStream, streams
from pipelines.sources.table import Source
from pipelines.storage import files
from pipelines.storage.range_file import Piece, RangeFile, read_pieces

MAPPED_BYTES = 256 * 2**20
"""About the most of a file that is mapped at a time: what is mapped and was touched counts as memory of the process."""

SMALL_BYTES = 64 * 2**10
"""Less than this is read rather than mapped: a mapping would take longer than the bytes."""

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


def value_dtype(source: Source) -> np.dtype[Any]:
    """The dtype in which the values of a source are read: this machine's byte order, times as int64."""
    dtype = np.dtype(source.dtype)
    return np.dtype(np.int64) if dtype.kind in "mM" else dtype.newbyteorder("=")


def read_files(root: str, together: Iterable[Sequence[Range]]) -> None:
    """Reads rows of sources; of files that are not local, several pieces at a time.

    Fields of one table that are wanted of the same rows are read together: their records are read once. Ranges of one
    Fortran-ordered array share its mapping: rows of several row axes may touch every page of the file, and then to
    map it takes longer than to copy the rows.

    Args:
        root: The directory of the sources.
        together: What is read of each file, and where it goes.

    Raises:
        DataError: If a file is not of the size that it had when the sources were checked, or cannot be unpacked.
        OSError: If a file cannot be read.
    """
    remote: list[Iterator[Piece]] = []
    for ranges in together:
        path = files.locate(root, ranges[0][0][0].source.path)
        if files.is_local(path):
            _read_local(path, _tables(ranges))
        else:
            remote.append(_pieces(path, ranges))
    if remote:
        read_pieces(itertools.chain.from_iterable(remote), files.open_ranges)


def _check_status(status: os.stat_result, path: str, source: Source) -> None:
    check_size(status.st_size, path, source)
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

    @property
    def plane(self) -> int:
        """The bytes of a Fortran-ordered array for one index of its last axis."""
        return math.prod(self.shape[:-1]) * self.dtype.itemsize

    @property
    def dense(self) -> bool:
        """Whether what is wanted has small gaps only: rows of every column, which are short."""
        if not self.scattered or self.shape[0] * self.dtype.itemsize > boxes.GAP_BYTES or self.plane > TOGETHER_BYTES:
            return False
        whole = tuple(slice(0, length) for length in self.shape[1:])
        return any(box[1:] == whole for _, box in self._boxes())

    def _boxes(self) -> Iterator[tuple[int, Box]]:
        """The boxes of the rows, over all axes of the array, each with the number of rows before it."""
        done = 0
        for box in boxes.of_range(self.shape[: self.row_axes], self.start, self.stop):
            yield done, (*box, *(slice(0, length) for length in self.shape[self.row_axes :]))
            done += math.prod(axis.stop - axis.start for axis in box)

    def windows(self, size: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Parts of a Fortran-ordered array, of about `size` bytes: the first index of its last axis, and the shape."""
        step = max(1, size // self.plane)
        for first in range(0, self.shape[-1], step):
            yield first, (*self.shape[:-1], min(step, self.shape[-1] - first))

    def load(self, file: Reader, first: int, lengths: tuple[int, ...]) -> Array:
        """The part of a Fortran-ordered array from `first` on of its last axis."""
        window: Array = np.empty(lengths, self.dtype, order="F")
        file.seek(self.source.offset + first * self.plane)
        read_into(file, window.reshape(-1, order="F").view(np.uint8), self.source)
        return window

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

    def read(self, file: Reader) -> None:
        """Reads rows by byte ranges, which ascend where the rows lie together."""
        if not self.empty:
            fulfil(file, itertools.chain.from_iterable(self.requests()), self.source)

    def requests(self) -> Iterator[Iterator[Request]]:
        """What is asked of the file: some sequences, each in the order of the file."""
        if self.scattered:
            yield from (self._of_columns(done, box) for done, box in self._boxes())
        else:
            yield self._of_records() if self.source.record else self._of_numbers()

    def _of_numbers(self) -> Iterator[Request]:
        """Rows of numbers that lie together are read straight into their place."""
        (field,) = self.fields
        values = field.out.reshape(-1).view(np.uint8)
        offset = self.source.offset + self.start * (field.out.nbytes // len(field.out))
        place = _leave if field.dtype.isnative else functools.partial(_swap, field.dtype)
        step = max(1, TOGETHER_BYTES // field.dtype.itemsize) * field.dtype.itemsize
        for first in range(0, len(values), step):
            target = values[first : first + step]
            yield Request(offset=offset + first, size=len(target), target=target, place=place)

    def _of_records(self) -> Iterator[Request]:
        """Rows of records that lie together, some at a time."""
        shape = self.shape[self.row_axes :]
        row_bytes = math.prod(shape) * self.dtype.itemsize
        step = max(1, boxes.BUFFER_BYTES // row_bytes)
        for first in range(self.start, self.stop, step):
            lengths = (min(step, self.stop - first), *shape)
            place = functools.partial(self._put_records, first - self.start, lengths)
            yield Request(offset=self.source.offset + first * row_bytes, size=lengths[0] * row_bytes, place=place)

    def _put_records(self, done: int, lengths: tuple[int, ...], data: npt.NDArray[np.uint8]) -> None:
        elements: Array = np.ndarray(lengths, self.dtype, buffer=data.data)
        for field in self.fields:
            field.put(done, lengths[:1], (), elements)

    def _of_columns(self, done: int, box: Box) -> Iterator[Request]:
        """Rows of a box, `done` before it, that are gathered from the columns of the file."""
        itemsize = self.dtype.itemsize
        strides = boxes.fortran_strides(self.shape, itemsize)
        for part in boxes.requests(self.shape, box, itemsize):
            lengths = tuple(axis.stop - axis.start for axis in part)
            first = sum(axis.start * stride for axis, stride in zip(part, strides, strict=True))
            yield Request(
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


def _by_array(tables: Iterable[_Table]) -> Iterable[list[_Table]]:
    """What is read of one array in one shape, together; without what is empty, and what has to be read forward."""
    arrays: dict[tuple[str, tuple[int, ...]], list[_Table]] = {}
    for table in tables:
        if not (table.empty or table.source.compressed):
            arrays.setdefault((table.source.member, table.shape), []).append(table)
    return arrays.values()


def _leave(_: npt.NDArray[np.uint8]) -> None:
    """Leaves values as they are in the file."""


def _pieces(path: str, ranges: Sequence[Range]) -> Iterator[Piece]:
    """What is asked of a remote file by all that is read of it now: what lies near together is one request."""
    tables = _tables(ranges)
    packed = [table for table in tables if table.source.compressed]
    if packed:
        yield path, lambda _: _unpack(path, packed)
    apart: list[_Table] = []
    for together in _by_array(tables):
        if any(table.dense for table in together):  # of each column some rows are wanted: all of it is read
            for first, lengths in together[0].windows(TOGETHER_BYTES):
                yield path, functools.partial(_read_window, path, together, first, lengths)
        else:
            apart += together
    yield from pieces(path, [each for table in apart for each in table.requests()], tables[0].source)


def _read_window(path: str, tables: Sequence[_Table], first: int, lengths: tuple[int, ...], file: RangeFile) -> None:
    offset = tables[0].source.offset + first * tables[0].plane
    file.will_read(offset, offset + lengths[-1] * tables[0].plane)
    check_size(file.size, path, tables[0].source)
    window = tables[0].load(file, first, lengths)
    for table in tables:
        table.copy(window, first)


def _tables(ranges: Sequence[Range]) -> list[_Table]:
    """The arrays that hold what is wanted of each range; the fields of one array are together."""
    found: list[_Table] = []
    for wanted, start, stop in ranges:
        groups: dict[tuple[str, int], list[Wanted]] = {}
        for one in wanted:
            # Several features may be one plain array, but each goes to its own place.
            key = one.source.member if one.source.record else f"{one.source.member}/{len(groups)}"
            groups.setdefault((key, one.row_axes), []).append(one)
        found += [_table(group, start, stop) for group in groups.values()]
    return found


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
    packed = [table for table in tables if table.source.compressed]
    if packed:
        _unpack(path, packed)
    if len(packed) == len(tables):
        return
    with open(path, "rb", buffering=0) as file:
        _check_status(os.fstat(file.fileno()), path, tables[0].source)
        for together in _by_array(tables):
            if together[0].scattered:
                _read_mapped(file, together)
            else:
                for table in together:
                    table.read(file)


def _read_mapped(file: io.FileIO, tables: Sequence[_Table]) -> None:
    """Copies rows of one Fortran-ordered array from mappings of its parts, one after the other."""
    array = tables[0]
    for first, lengths in array.windows(MAPPED_BYTES):
        if lengths[-1] * array.plane < SMALL_BYTES:
            window = array.load(file, first, lengths)
        else:
            mapped = np.memmap(file, array.dtype, "r", array.source.offset + first * array.plane, lengths, "F")
            window = np.asarray(mapped)  # a plain array is cut faster
        for table in tables:
            table.copy(window, first)


def _swap(dtype: np.dtype[Any], data: npt.NDArray[np.uint8]) -> None:
    """Gives values, read as they are in the file, this machine's byte order; `byteswap` would take twice as long."""
    values = data.view(dtype.newbyteorder("="))
    step = max(1, SWAPPED_BYTES // dtype.itemsize)
    for first in range(0, len(values), step):
        some = values[first : first + step]
        np.copyto(some, some.view(dtype))


def _unpack(path: str, tables: Sequence[_Table]) -> None:
    """Reads compressed members, one after the other."""
    try:
        for table in tables:
            _read_compressed(path, table)
    except NpyError as error:
        raise DataError(str(Problem(path=path, expected=error.expected, found=error.found))) from None


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
        check_size(stream.size, path, source)
        table.read(stream)
    except BaseException:
        stream.close()
        raise
    streams.give(key, stream)
