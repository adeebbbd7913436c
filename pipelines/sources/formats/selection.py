"""Rows that are wanted of an array in a container, and the places that they go to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.sources.formats import boxes
from pipelines.sources.formats.boxes import Array, Box
from pipelines.sources.parts import SourceArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """Values that are wanted of each element: the element itself, or a field of it.

    Attributes:
        path: The names of the field and of those that hold it, from the outermost; empty where there is none.
        dtype: The dtype of the values in the file; times as integers.
        out: Where they go, `[rows, *shape of a row]`: C-contiguous, in this machine's byte order.
    """

    path: tuple[str, ...]
    dtype: np.dtype[Any]
    out: Array

    def put(self, start: int, lengths: Sequence[int], inner: Box, elements: Array) -> None:
        """Copies the values of `elements`, which lie at `inner` of the box of `lengths` rows from row `start`."""
        target = self.out[start : start + math.prod(lengths)].reshape(*lengths, *self.out.shape[1:])[inner]
        values = elements
        for name in self.path:
            values = values[name]
        values = values.view(self.dtype) if values.dtype.kind in "mM" else values
        for tile in boxes.tiles(elements):
            np.copyto(target[tile], values[tile])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Rows `[start, stop)` of an array in a container.

    Attributes:
        source: What is known of the array: its container, and where it is in there.
        dtype: The dtype of its elements in the file: of numbers (times as integers), strings or records.
        shape: Its shape; an array that is one row has an axis of length 1 before its own.
        columns: What is wanted of each element; one where elements are no records.
    """

    source: SourceArray
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    row_axes: int
    start: int
    stop: int
    columns: tuple[Column, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to read."""
        return self.start == self.stop or 0 in self.shape

    def boxes(self) -> Iterator[tuple[int, Box]]:
        """The boxes of the rows, over all axes of `shape`, each with the number of rows before it."""
        done = 0
        for box in boxes.of_range(self.shape[: self.row_axes], self.start, self.stop):
            yield done, (*box, *(slice(0, length) for length in self.shape[self.row_axes :]))
            done += math.prod(axis.stop - axis.start for axis in box)

    def put(self, done: int, box: Box, part: Box, elements: Array) -> None:
        """Copies to their places the elements at `part` of one of the `boxes`, over all axes of `shape`.

        So many rows are `done` before the box.
        """
        lengths = [axis.stop - axis.start for axis in box[: self.row_axes]]
        inner = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
        for column in self.columns:
            column.put(done, lengths, inner, elements)

    def copy_from(self, array: Any) -> None:
        """Copies what is wanted from a whole array that is cut by slices, as NumPy's and those of most libraries are.

        An array that is one row comes without the axis that `shape` has before its own.
        """
        for done, box in self.boxes():
            elements = np.asarray(array[box[len(box) - len(array.shape) :]])
            self.put(done, box, box, elements.reshape([axis.stop - axis.start for axis in box]))
