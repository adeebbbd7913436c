"""Rows of arrays whose values lie one after the other in a file, in C or Fortran order; read by range.

Rows that lie together are read straight into their place. Fortran-ordered arrays are mapped where the file is local,
and gathered from byte ranges where it is remote. The locator of such an array is the offset of its first byte.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.sources.formats import boxes
from pipelines.sources.formats.boxes import Array, Box
from pipelines.sources.formats.requests import TOGETHER_BYTES, Reader, Remote, Request, fulfil, join_requests, read_into
from pipelines.sources.formats.selection import Selection
from pipelines.sources.formats.unchanged import check_status
from pipelines.storage.remote import ReadTask

MAPPED_BYTES = 256 * 2**20
"""About the most of a file that is mapped at a time: what is mapped and was touched counts as memory of the process."""

SMALL_BYTES = 64 * 2**10
"""Less than this is read rather than mapped: a mapping would take longer than the bytes."""

SWAPPED_BYTES = 128 * 2**10
"""What is put into this machine's byte order at a time, so that NumPy's copy of it stays in the cache."""

Slab = tuple[int, tuple[int, ...]]
"""Part of a Fortran-ordered array, which is a run of bytes: the first index of its last axis, and its shape."""


def read_local(path: str, selections: Sequence[Selection]) -> None:
    """Reads rows of arrays in a local file, which is opened once.

    Selections of one Fortran-ordered array share its mapping: rows of several row axes may touch every page of the
    file, and then to map it takes longer than to copy the rows.

    Raises:
        DataError: If the file has changed since its headers were read.
        OSError: If it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        check_status(os.fstat(file.fileno()), path, selections[0].source)
        for together in _by_array(selections):
            if _is_scattered(together[0]):
                _read_mapped(file, together)
            else:
                for selection in together:
                    read_from(file, selection)


def read_from(file: Reader, selection: Selection) -> None:
    """Reads rows from an open file or stream, by ranges that ascend where the rows lie together."""
    if not selection.empty:
        fulfil(file, itertools.chain.from_iterable(_requests(selection)), selection.source)


def pieces(path: str, selections: Sequence[Selection]) -> Iterator[ReadTask]:
    """The requests to a remote file for all that is read of it now: what lies near together is one request."""
    remote = Remote(path, selections[0].source)
    apart: list[Selection] = []
    for together in _by_array(selections):
        if any(map(_is_dense, together)):  # of each column some rows are wanted: all of it is read
            for window in _windows(together[0], TOGETHER_BYTES):
                yield functools.partial(_read_window, remote, together, window)
        else:
            apart += together
    requests = [ascending for selection in apart for ascending in _requests(selection)]
    yield from join_requests(remote, requests)


def _by_array(selections: Iterable[Selection]) -> Iterable[list[Selection]]:
    """The selections of one array in one shape, together; without those that are empty."""
    arrays: dict[Any, list[Selection]] = {}
    for selection in selections:
        if not selection.empty:
            arrays.setdefault((selection.source.locator, selection.shape), []).append(selection)
    return arrays.values()


def _is_scattered(selection: Selection) -> bool:
    """Whether the values of a row lie apart."""
    return selection.source.fortran and len(selection.shape) > 1


def _is_dense(selection: Selection) -> bool:
    """Whether what is wanted has small gaps only: rows of every column, which are short."""
    column = selection.shape[0] * selection.dtype.itemsize
    if not _is_scattered(selection) or column > boxes.GAP_BYTES or _plane(selection) > TOGETHER_BYTES:
        return False
    whole = tuple(slice(0, length) for length in selection.shape[1:])
    return any(box[1:] == whole for _, box in selection.boxes())


def _plane(selection: Selection) -> int:
    """The bytes of a Fortran-ordered array for one index of its last axis."""
    return math.prod(selection.shape[:-1]) * selection.dtype.itemsize


def _windows(selection: Selection, size: int) -> Iterator[Slab]:
    """Cuts a Fortran-ordered array into windows of about `size` bytes."""
    *inner, last = selection.shape
    step = max(1, size // _plane(selection))
    for first in range(0, last, step):
        yield first, (*inner, min(step, last - first))


def _read_mapped(file: io.FileIO, selections: Sequence[Selection]) -> None:
    """Copies rows of one Fortran-ordered array from mappings of its windows, one after the other."""
    array = selections[0]
    for window in _windows(array, MAPPED_BYTES):
        first, shape = window
        if shape[-1] * _plane(array) < SMALL_BYTES:
            elements = _load(file, array, window)
        else:
            mapped = np.memmap(file, array.dtype, "r", array.source.locator + first * _plane(array), shape, "F")
            elements = np.asarray(mapped)  # a plain array is cut faster
        for selection in selections:
            _copy_window(selection, elements, first)


def _read_window(remote: Remote, selections: Sequence[Selection], window: Slab) -> None:
    array, (first, shape) = selections[0], window
    offset = array.source.locator + first * _plane(array)
    elements = remote.read(offset, offset + shape[-1] * _plane(array)).view(array.dtype).reshape(shape, order="F")
    for selection in selections:
        _copy_window(selection, elements, first)


def _load(file: Reader, array: Selection, window: Slab) -> Array:
    """Reads a window of a Fortran-ordered array into memory."""
    first, shape = window
    elements: Array = np.empty(shape, array.dtype, order="F")
    file.seek(array.source.locator + first * _plane(array))
    read_into(file, elements.reshape(-1, order="F").view(np.uint8), array.source)
    return elements


def _copy_window(selection: Selection, elements: Array, first: int) -> None:
    """Copies what is wanted of the window that begins at `first` of the last axis."""
    for done, box in selection.boxes():
        low, high = max(box[-1].start, first), min(box[-1].stop, first + elements.shape[-1])
        if low < high:
            part = elements[(*box[:-1], slice(low - first, high - first))]
            selection.put(done, box, (*box[:-1], slice(low, high)), part)


def _requests(selection: Selection) -> Iterator[Iterator[Request]]:
    """What is asked of the file: some sequences, each in the order of the file."""
    if _is_scattered(selection):
        yield from (_of_columns(selection, done, box) for done, box in selection.boxes())
    else:
        yield _of_records(selection) if selection.source.record else _of_numbers(selection)


def _of_numbers(selection: Selection) -> Iterator[Request]:
    """Rows of numbers that lie together are read straight into their place."""
    (column,) = selection.columns
    values = column.out.reshape(-1).view(np.uint8)
    offset = selection.source.locator + selection.start * (column.out.nbytes // len(column.out))
    place = None if column.dtype.isnative else functools.partial(_swap, column.dtype)
    step = max(1, TOGETHER_BYTES // column.dtype.itemsize) * column.dtype.itemsize
    for first in range(0, len(values), step):
        target = values[first : first + step]
        yield Request(offset=offset + first, size=len(target), target=target, place=place)


def _swap(dtype: np.dtype[Any], data: npt.NDArray[np.uint8]) -> None:
    """Gives values, read as they are in the file, this machine's byte order; `byteswap` would take twice as long."""
    values = data.view(dtype.newbyteorder("="))
    step = max(1, SWAPPED_BYTES // dtype.itemsize)
    for first in range(0, len(values), step):
        some = values[first : first + step]
        np.copyto(some, some.view(dtype))


def _of_records(selection: Selection) -> Iterator[Request]:
    """Rows of records that lie together, some at a time."""
    shape = selection.shape[selection.row_axes :]
    row_bytes = math.prod(shape) * selection.dtype.itemsize
    step = max(1, boxes.BUFFER_BYTES // row_bytes)
    for first in range(selection.start, selection.stop, step):
        lengths = (min(step, selection.stop - first), *shape)
        place = functools.partial(_put_records, selection, first - selection.start, lengths)
        yield Request(offset=selection.source.locator + first * row_bytes, size=lengths[0] * row_bytes, place=place)


def _put_records(selection: Selection, done: int, lengths: tuple[int, ...], data: npt.NDArray[np.uint8]) -> None:
    elements: Array = np.ndarray(lengths, selection.dtype, buffer=data.data)
    for column in selection.columns:
        column.put(done, lengths[:1], (), elements)


def _of_columns(selection: Selection, done: int, box: Box) -> Iterator[Request]:
    """Rows of a box, `done` before it, that are gathered from the columns of the file."""
    itemsize = selection.dtype.itemsize
    strides = boxes.fortran_strides(selection.shape, itemsize)

    def put(part: Box, lengths: tuple[int, ...], data: npt.NDArray[np.uint8]) -> None:
        selection.put(done, box, part, np.ndarray(lengths, selection.dtype, buffer=data.data, strides=strides))

    for part in boxes.requests(selection.shape, box, itemsize):
        lengths = tuple(axis.stop - axis.start for axis in part)
        first = sum(axis.start * stride for axis, stride in zip(part, strides, strict=True))
        yield Request(
            offset=selection.source.locator + first,
            size=boxes.extent(lengths, strides, itemsize),
            place=functools.partial(put, part, lengths),
            gap=boxes.GAP_BYTES,
        )
