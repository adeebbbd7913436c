"""Cuts ranges of rows into boxes: of any array, of what one request to a file reads, of what caches hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Box = tuple[slice, ...]

BUFFER_BYTES = 4 * 2**20
"""The most that one request for a part of a Fortran-ordered file, or for the records of a table, reads."""

GAP_BYTES = 256 * 2**10
"""Bytes that are read and dropped rather than asked for separately: a request to an object store takes tens of
milliseconds, and this much takes a few."""

TILE_COLUMNS = 1024
"""How many runs of a Fortran-ordered array are copied side by side: their cache lines, and the pages that they are on,
stay at hand until all their values are copied. Twice as fast as without (1,311 rows of a cube, 20 bytes a run)."""


def of_range(shape: tuple[int, ...], start: int, stop: int) -> list[Box]:
    """Cuts a range of flat indices, in C order, into at most `2 * len(shape) - 1` boxes; there is at least one axis.

    Their elements, each box in C order, are the range in order.
    """
    if start >= stop:
        return []
    if len(shape) == 1:
        return [(slice(start, stop),)]
    step = math.prod(shape[1:])
    first, head = divmod(start, step)
    last, tail = divmod(stop, step)
    if first == last:
        return [(slice(first, first + 1), *box) for box in of_range(shape[1:], head, tail)]
    found: list[Box] = []
    if head:
        found += [(slice(first, first + 1), *box) for box in of_range(shape[1:], head, step)]
        first += 1
    if first < last:
        found.append((slice(first, last), *(slice(0, length) for length in shape[1:])))
    return found + [(slice(last, last + 1), *box) for box in of_range(shape[1:], 0, tail)]


def requests(shape: tuple[int, ...], box: Box, itemsize: int) -> Iterator[Box]:
    """Cuts a box, not empty, of a Fortran-ordered array into boxes that one request each can read.

    Yields:
        Boxes that together are `box`, in the order of the file. Each extends over at most `BUFFER_BYTES`, and holds no
        gap of more than `GAP_BYTES`.
    """
    strides = fortran_strides(shape, itemsize)
    lengths = tuple(axis.stop - axis.start for axis in box)
    slowest = max((axis for axis, length in enumerate(lengths) if length > 1), default=None)
    if slowest is None:
        yield box
        return
    stride = strides[slowest]
    inner = extent(lengths[:slowest], strides[:slowest], itemsize)
    # Axes that lie inside have smaller gaps than this one, but not always small ones.
    gaps = [stride - inner] + [
        strides[axis] - extent(lengths[:axis], strides[:axis], itemsize)
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


def tiles(elements: Array) -> Iterator[Box]:
    """Cuts a Fortran-ordered array into tiles of at most `TILE_COLUMNS` columns; leaves any other whole."""
    if elements.ndim < 2 or elements.strides[0] > elements.strides[-1]:
        yield ()
        return
    cuts: list[list[slice]] = []
    left = TILE_COLUMNS
    for length, stride in zip(reversed(elements.shape), reversed(elements.strides), strict=True):
        step = length if stride == elements.itemsize else min(length, left)
        cuts.append([slice(first, first + step) for first in range(0, length, step)])
        left = left if stride == elements.itemsize else max(1, left // step)
    yield from itertools.product(*reversed(cuts))


def fortran_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The strides of a Fortran-ordered array in bytes."""
    return tuple(itemsize * math.prod(shape[:axis]) for axis in range(len(shape)))


def extent(lengths: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> int:
    """The bytes from the first element of a box to the end of its last."""
    return itemsize + sum((length - 1) * stride for length, stride in zip(lengths, strides, strict=True))
