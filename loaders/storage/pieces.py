"""Rows in the frames of a shard, as pieces that are copied at once, and the columns that they are copied to."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from loaders.format import decode
from loaders.format.record_layout import RecordLayout
from loaders.format.spec import FeatureSpec

T = TypeVar("T")


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


def in_threads(read: Callable[[T], None], parts: Sequence[T], *, threads: int, shares: int) -> None:
    """Reads parts in about so many shares, each by one of several threads; an error is that of the first part."""
    size = -(-len(parts) // max(1, shares))

    def read_from(first: int) -> None:
        for part in parts[first : first + size]:
            read(part)

    firsts = range(0, len(parts), max(1, size))
    if len(firsts) == 1:
        read_from(0)
    elif firsts:
        with concurrent.futures.ThreadPoolExecutor(min(len(firsts), threads)) as pool:
            for _ in pool.map(read_from, firsts):
                pass


class Memory(Protocol):
    """What makes arrays, as NumPy does."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], /) -> npt.NDArray[Any]:
        """An array whose values are not said."""


def empty_column(spec: FeatureSpec, rows: int, memory: Memory = np) -> npt.NDArray[Any]:
    """A column of rows without values: what is in it is not said, but that strings are empty."""
    if spec.variable:
        return np.full((rows, *(() if spec.ragged else spec.inner_shape)), b"", dtype=object)
    return memory.empty((rows, *spec.inner_shape), spec.numpy_dtype)
