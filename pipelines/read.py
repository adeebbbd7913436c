"""Reads rows of a source by range, never a whole file: local files through mmap, others by byte ranges."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pipelines import files
from pipelines.errors import DataError, Problem
from pipelines.sources import Source

Array = npt.NDArray[Any]
Box = tuple[slice, ...]

BUFFER_BYTES = 4 * 2**20
"""The most that one request for a part of a Fortran-ordered file reads."""

GAP_BYTES = 256 * 2**10
"""Bytes that are read and dropped rather than asked for separately: a request to an object store takes tens of
milliseconds, and this much takes a few."""

CHECK_ELEMENTS = 2**16
"""Elements looked at together in the search for infinities: the masks stay in the cache (8 GB/s of float32)."""


def read_rows(
    root: str, source: Source, start: int, stop: int, *, row_axes: int, out: Array | None = None
) -> npt.NDArray[Any]:
    """Reads consecutive rows. Row axes are flattened in C order, whatever the order of the file.

    Args:
        root: The directory of the sources.
        source: The file.
        start: The first row.
        stop: One more than the last row.
        row_axes: How many leading axes of the array count rows.
        out: Where the rows go: C-contiguous, of the shape and dtype of the result. None makes a new array.

    Returns:
        The rows, [stop - start, *row shape], C-contiguous, of the file's dtype in this machine's byte order; `out` if
        given.

    Raises:
        DataError: If the file is not of the size that it had when the sources were checked.
        IndexError: If the range is not within the file's rows.
        ValueError: If `out` does not fit.
        OSError: If the file cannot be read.
    """
    path = files.join(root, source.path)
    rows = math.prod(source.shape[:row_axes])
    if not 0 <= start <= stop <= rows:
        raise IndexError(f"{path}: expected a range within its {rows} rows; found {start} to {stop}")
    shape = (stop - start, *source.shape[row_axes:])
    dtype = np.dtype(source.dtype).newbyteorder("=")
    if out is None:
        out = np.empty(shape, dtype)
    elif out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        found = f"{out.dtype} of shape {out.shape}{'' if out.flags.c_contiguous else ', not contiguous'}"
        raise ValueError(f"{path}: expected a C-contiguous array for {dtype} of shape {shape}; found {found}")
    with files.open_input(path) as file:
        _check_unchanged(file, path, source)
        if out.size == 0:
            return out
        if files.is_local(path):
            _read_mapped(file, source, start, stop, row_axes, out)
        elif source.fortran:
            _read_fortran(file, source, start, stop, row_axes, out)
        else:
            _read_contiguous(file, source, start, out)
    return out


def _check_unchanged(file: BinaryIO, path: str, source: Source) -> None:
    size = file.seek(0, os.SEEK_END)
    if size != source.size:
        expected = f"{source.size} bytes, as when the sources were checked"
        raise DataError(str(Problem(path=path, expected=expected, found=f"{size} bytes: the file has changed")))
    if files.is_local(path) and (modified := os.fstat(file.fileno()).st_mtime) != source.modified:
        expected = f"a file last changed at {_show_time(source.modified)}, as when the sources were checked"
        raise DataError(str(Problem(path=path, expected=expected, found=_show_time(modified))))


def _show_time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="milliseconds")


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


def _targets(source: Source, start: int, stop: int, row_axes: int, out: Array) -> Iterator[tuple[Box, Array]]:
    """The boxes of a range of rows, over all axes of the array, each with the part of `out` that it fills."""
    row_shape = source.shape[row_axes:]
    done = 0
    for box in boxes(source.shape[:row_axes], start, stop):
        lengths = [axis.stop - axis.start for axis in box]
        count = math.prod(lengths)
        target = out[done : done + count].reshape(*lengths, *row_shape)
        yield (*box, *(slice(0, length) for length in row_shape)), target
        done += count


def _read_mapped(file: BinaryIO, source: Source, start: int, stop: int, row_axes: int, out: Array) -> None:
    """Copies from a mapping that lasts for this read only, so that the pages it touched are let go."""
    mapped = np.memmap(
        file,
        dtype=np.dtype(source.dtype),
        mode="r",
        offset=source.offset,
        shape=source.shape,
        order="F" if source.fortran else "C",
    )
    for box, target in _targets(source, start, stop, row_axes, out):
        np.copyto(target, mapped[box])


def _read_contiguous(file: BinaryIO, source: Source, start: int, out: Array) -> None:
    """Reads rows that lie together in the file straight into `out`."""
    file.seek(source.offset + start * (out.nbytes // len(out)))
    _read_into(file, out.reshape(-1).view(np.uint8), source)
    if not np.dtype(source.dtype).isnative:
        out.byteswap(inplace=True)


def _read_fortran(file: BinaryIO, source: Source, start: int, stop: int, row_axes: int, out: Array) -> None:
    """Gathers rows from the columns of the file, one request at a time."""
    dtype = np.dtype(source.dtype)
    strides = _fortran_strides(source.shape, dtype.itemsize)
    buffer = np.empty(min(BUFFER_BYTES, source.size), np.uint8)
    for box, target in _targets(source, start, stop, row_axes, out):
        for request in requests(source.shape, box, dtype.itemsize):
            lengths = tuple(axis.stop - axis.start for axis in request)
            first = sum(axis.start * stride for axis, stride in zip(request, strides, strict=True))
            file.seek(source.offset + first)
            _read_into(file, buffer[: _extent(lengths, strides, dtype.itemsize)], source)
            values: Array = np.ndarray(lengths, dtype, buffer=buffer.data, strides=strides)
            inner = tuple(
                slice(part.start - whole.start, part.stop - whole.start)
                for part, whole in zip(request, box, strict=True)
            )
            np.copyto(target[inner], values)


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


def _read_into(file: BinaryIO, target: npt.NDArray[np.uint8], source: Source) -> None:
    """Fills `target` from where the file stands; a remote file may give fewer bytes at a time."""
    view = target.data
    stream: Any = file  # typeshed gives BinaryIO no readinto; every binary file of Python's io has one
    while view.nbytes:
        count = stream.readinto(view)
        if not count:
            found = f"the end of the file {view.nbytes} bytes before the end of the rows"
            raise DataError(str(Problem(path=source.path, expected=f"{source.size} bytes", found=found)))
        view = view[count:]


def check_finite(array: Array, *, path: str, feature: str, first_row: int) -> None:
    """Looks for infinities in rows of floats; NaN is a missing value, and dtypes without infinities pass.

    Args:
        array: Rows, [rows, *row shape], of any dtype.
        path: Their file, for the message.
        feature: Their feature, for the message.
        first_row: Which row of the file `array[0]` is.

    Raises:
        DataError: Naming the first row that holds an infinity, and the value.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return
    step = max(1, CHECK_ELEMENTS // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        infinite = _infinite(array[start : start + step])
        if infinite.any():
            index = tuple(int(i) for i in np.unravel_index(int(np.argmax(infinite)), infinite.shape))
            value = array[start + index[0], *index[1:]]
            where = f" at {index[1:]}" if index[1:] else ""
            found = f"{value} in row {first_row + start + index[0]}{where}"
            raise DataError(str(Problem(path=path, feature=feature, expected="finite values or NaN", found=found)))


def _infinite(values: Array) -> npt.NDArray[np.bool_]:
    if values.dtype == np.float16 and values.dtype.isnative:
        # NumPy has no vector code for float16; on the bits it is 10 times as fast.
        infinite: npt.NDArray[np.bool_] = (values.view(np.uint16) & np.uint16(0x7FFF)) == np.uint16(0x7C00)
    else:
        infinite = np.isinf(values)
    return infinite
