"""Rows in the frames of a shard, as pieces that are copied at once, and the columns that they are copied to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format import decode
from loaders.format.record_layout import RecordLayout
from loaders.format.spec import FeatureSpec


@dataclasses.dataclass(frozen=True)
class FrameSlice:
    """Rows `low` up to `high` of frames of one layout, the first of which is record `first` of a shard.

    They go to the target from its row `at` on.
    """

    shard: int
    first: int
    frames: npt.NDArray[np.uint8]
    layout: RecordLayout
    low: int
    high: int
    at: int

    def numbers(self) -> npt.NDArray[np.int64]:
        """The numbers of the records."""
        return np.arange(self.first, self.first + len(self.frames))

    def values(self, spec: FeatureSpec) -> npt.NDArray[np.uint8]:
        """The rows of a feature, as they are encoded: of shape [records, rows, bytes], or [rows, 1, bytes] of parts."""
        found, rows = decode.values(self.frames, self.layout, spec), self.layout.rows
        if self.low == 0 and self.high == len(self.frames) * rows:
            return found
        record, row = np.divmod(np.arange(self.low, self.high), rows)
        return found[record, row][:, np.newaxis]


def runs_of(numbers: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers among ascending ones: the first of each, and the one after its last."""
    if not len(numbers):
        return []
    gaps = np.flatnonzero(np.diff(numbers) > 1)
    first, last = numbers[np.append(0, gaps + 1)], numbers[np.append(gaps, -1)]
    return list(zip(first.tolist(), (last + 1).tolist(), strict=True))


Empty = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]
"""What makes arrays whose values are not said, as `np.empty` does."""


def empty_column(spec: FeatureSpec, rows: int, empty: Empty = np.empty) -> npt.NDArray[Any]:
    """A column of rows without values: what is in it is not said, but that strings are empty."""
    if spec.variable:
        return np.full((rows, *(() if spec.ragged else spec.inner_shape)), b"", dtype=object)
    return empty((rows, *spec.inner_shape), spec.numpy_dtype)
