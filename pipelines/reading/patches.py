"""Patches: the neighbours of each row, cut out of its array when it is read."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.config.patch import Patch
from pipelines.reading.ranges import Wanted, value_dtype
from pipelines.sources.formats import boxes
from pipelines.sources.parts import Source

Array = npt.NDArray[Any]

MODES: dict[str, Literal["reflect", "edge", "constant"]] = {"reflect": "reflect", "edge": "edge", "zeros": "constant"}
"""What NumPy calls the ways to pad."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Rows `[start, stop)` of an array, and all rows that their patches reach.

    Attributes:
        source: The array.
        patch: What each patch is.
        start: The first row that is in the middle of a patch.
        stop: One more than the last one.
    """

    source: Source
    patch: Patch
    start: int
    stop: int

    @property
    def grid(self) -> tuple[int, ...]:
        """The lengths of the axes that count rows."""
        return self.source.shape[: len(self.patch.size)]

    @functools.cached_property
    def middle(self) -> tuple[slice, ...]:
        """The smallest box of the grid that holds the rows; of several lines, whole lines."""
        first, last = ([int(n) for n in np.unravel_index(row, self.grid)] for row in (self.start, self.stop - 1))
        if first[0] == last[0]:
            return tuple(slice(begin, end + 1) for begin, end in zip(first, last, strict=True))
        return (slice(first[0], last[0] + 1), *(slice(0, length) for length in self.grid[1:]))

    @functools.cached_property
    def reached(self) -> tuple[slice, ...]:
        """What of the grid the patches reach."""
        return tuple(
            slice(max(axis.start - margin, 0), min(axis.stop + margin, length))
            for axis, margin, length in zip(self.middle, self.patch.margins, self.grid, strict=True)
        )

    def allocate(self) -> Array:
        """Where what is reached goes, `[*lengths along the axes that count rows, *shape of a row]`."""
        lengths = [axis.stop - axis.start for axis in self.reached]
        return np.empty((*lengths, *self.source.shape[len(lengths) :]), value_dtype(self.source))

    def wanted(self, values: Array) -> Iterator[Wanted]:
        """What has to be read to fill the array that `allocate` gave: a run of rows for each line, or one for all."""
        lines, *inner = self.reached
        row_axes, width = len(self.grid), math.prod(self.grid[1:])
        if all(axis == slice(0, length) for axis, length in zip(inner, self.grid[1:], strict=True)):
            out = values.reshape(-1, *values.shape[row_axes:])
            yield Wanted(source=self.source, row_axes=row_axes, start=lines.start * width, out=out)
            return
        (columns,) = inner
        for line, out in enumerate(values, lines.start):
            yield Wanted(source=self.source, row_axes=row_axes, start=line * width + columns.start, out=out)

    def cut(self, values: Array, out: Array) -> None:
        """Copies the patch of each row to its place.

        Args:
            values: What `wanted` has filled.
            out: `[rows, *size of a patch, *shape of a row]`.
        """
        axes = len(self.grid)
        beyond = [
            (margin - (own.start - near.start), margin - (near.stop - own.stop))
            for own, near, margin in zip(self.middle, self.reached, self.patch.margins, strict=True)
        ]
        padded = np.pad(values, [*beyond, *[(0, 0)] * (values.ndim - axes)], mode=MODES[self.patch.pad])
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.patch.size, axis=tuple(range(axes)))
        windows = np.moveaxis(windows, range(-axes, 0), range(axes, 2 * axes))
        done = 0
        for box in boxes.of_range(self.grid, self.start, self.stop):
            own = tuple(slice(b.start - m.start, b.stop - m.start) for b, m in zip(box, self.middle, strict=True))
            found = windows[own]
            rows = math.prod(found.shape[:axes])
            np.copyto(out[done : done + rows].reshape(found.shape), found)
            done += rows
