"""Windows and patches: boxes of an array that are rows, cut when they are read."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.config.window import Cut
from pipelines.reading.ranges import Wanted, value_dtype
from pipelines.sources.formats import boxes
from pipelines.sources.parts import SourceArray

Array = npt.NDArray[Any]

MODES: dict[str, Literal["reflect", "edge", "constant"]] = {"reflect": "reflect", "edge": "edge", "zeros": "constant"}
"""What NumPy calls the ways to pad."""

SPARSE_BYTES = 4 * 2**20
"""What is read at once of an array most of whose values lie in no row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Rows `[start, stop)` that are cut from an array, and all of its values that they reach."""

    source: SourceArray
    window: Cut
    start: int
    stop: int

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the axes along which rows are cut."""
        return self.source.shape[: len(self.window.sizes)]

    @functools.cached_property
    def grid(self) -> tuple[int, ...]:
        """How many rows there are along each of these axes."""
        return self.window.grid(self.lengths)

    @functools.cached_property
    def middle(self) -> tuple[slice, ...]:
        """The smallest box of the grid that holds the rows; of several lines, whole lines."""
        first, last = ([int(n) for n in np.unravel_index(row, self.grid)] for row in (self.start, self.stop - 1))
        if first[0] == last[0]:
            return tuple(slice(begin, end + 1) for begin, end in zip(first, last, strict=True))
        return (slice(first[0], last[0] + 1), *(slice(0, count) for count in self.grid[1:]))

    @functools.cached_property
    def reached(self) -> tuple[slice, ...]:
        """What of the array the rows reach."""
        found = []
        for axis, (rows, length) in enumerate(zip(self.middle, self.lengths, strict=True)):
            low, high = self.window.reach(axis, rows.start, rows.stop - 1, length)
            found.append(slice(int(low), int(high) + 1))
        return tuple(found)

    @property
    def sparse(self) -> bool:
        """Whether more is read between the rows than lies in them."""
        return any(stride > 2 * size for size, stride in zip(self.window.sizes, self.window.strides, strict=True))

    def pieces(self) -> Iterator[Surroundings]:
        """The same rows in runs that reach about `SPARSE_BYTES`."""
        inner = self.source.shape[len(self.lengths) :]
        row_bytes = math.prod((*self.window.strides, *inner)) * value_dtype(self.source).itemsize
        rows = max(1, SPARSE_BYTES // row_bytes)
        for start in range(self.start, self.stop, rows):
            yield dataclasses.replace(self, start=start, stop=min(start + rows, self.stop))

    def allocate(self) -> Array:
        """Where what is reached goes, `[*lengths of what is reached, *shape of a value]`."""
        lengths = [axis.stop - axis.start for axis in self.reached]
        return np.empty((*lengths, *self.source.shape[len(lengths) :]), value_dtype(self.source))

    def wanted(self, values: Array) -> Iterator[Wanted]:
        """What has to be read to fill the array that `allocate` gave: a run of values for each line, or one for all."""
        lines, *inner = self.reached
        axes, width = len(self.lengths), math.prod(self.lengths[1:])
        if all(axis == slice(0, length) for axis, length in zip(inner, self.lengths[1:], strict=True)):
            out = values.reshape(-1, *values.shape[axes:])
            yield Wanted(source=self.source, row_axes=axes, start=lines.start * width, out=out)
            return
        (columns,) = inner
        for line, out in enumerate(values, lines.start):
            yield Wanted(source=self.source, row_axes=axes, start=line * width + columns.start, out=out)

    def cut(self, values: Array, out: Array) -> None:
        """Copies each row of what `wanted` filled to its place in `[rows, *shape of the window, *shape of a value]`."""
        axes, window = len(self.lengths), self.window
        spans = [window.span(axis, rows.start, rows.stop - 1) for axis, rows in enumerate(self.middle)]
        beyond = [
            (max(-begin, 0), max(end + 1 - length, 0)) for (begin, end), length in zip(spans, self.lengths, strict=True)
        ]
        if any(map(any, beyond)):
            values = np.pad(values, [*beyond, *[(0, 0)] * (values.ndim - axes)], mode=MODES[window.pad])
        # What is mirrored may lie before the first row, and then so do the values.
        begins = [
            begin - near.start + pad[0] for (begin, _), near, pad in zip(spans, self.reached, beyond, strict=True)
        ]
        values = values[tuple(slice(begin, None) for begin in begins)]
        windows = np.lib.stride_tricks.sliding_window_view(values, window.sizes, axis=tuple(range(axes)))
        windows = windows[tuple(slice(None, None, stride) for stride in window.strides)]
        windows = np.moveaxis(windows, range(-axes, 0), range(axes, 2 * axes))
        done = 0
        for box in boxes.of_range(self.grid, self.start, self.stop):
            own = tuple(slice(b.start - m.start, b.stop - m.start) for b, m in zip(box, self.middle, strict=True))
            found = windows[own]
            rows = math.prod(found.shape[:axes])
            np.copyto(out[done : done + rows].reshape(found.shape), found)
            done += rows
