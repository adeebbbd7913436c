"""Runs of rows, and the units into which rows are cut that are read once for sums over them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TOGETHER = 16
"""Units whose sums one worker adds up before they travel."""

MOST_RUNS = 20_000
"""Runs of units, where there are very many units: a job's graph has the numbers of each run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """A run of consecutive rows of one part: `[start, stop)` of `table.parts[part]`."""

    part: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.stop - self.start


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """The rows of some parts, laid end to end and cut every few rows.

    So the units, and with them every partial statistic, are the same whatever the runner, and a million files of one
    row make no million units.

    Attributes:
        part_rows: How many rows each of them has, int64.
        unit_rows: How many rows a unit has; the last one may have fewer.
    """

    parts: Sequence[int]
    part_rows: npt.NDArray[np.int64]
    unit_rows: int

    @functools.cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """The number of the first row of each part, and the number of rows at the end."""
        return np.concatenate([[0], np.cumsum(self.part_rows)])

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        return -(-self.rows // self.unit_rows)

    def spans(self, unit: int) -> list[Span]:
        """The rows of one unit, in the order of the sources."""
        begin, end = unit * self.unit_rows, min((unit + 1) * self.unit_rows, self.rows)
        first = int(np.searchsorted(self._starts, begin, side="right")) - 1
        last = int(np.searchsorted(self._starts, end, side="left"))
        offsets = self._starts[first : last + 1].tolist()
        return [
            Span(part=part, start=max(begin - offset, 0), stop=min(end, following) - offset)
            for part, (offset, following) in zip(self.parts[first:last], itertools.pairwise(offsets), strict=True)
            if following > offset
        ]

    def runs(self, together: int | None = None) -> list[tuple[int, int]]:
        """The units in runs `[first, stop)`, so many together, or as many as make their sums small beside them."""
        together = max(min(len(self) // 64, TOGETHER) if together is None else together, -(-len(self) // MOST_RUNS), 1)
        return [(first, min(first + together, len(self))) for first in range(0, len(self), together)]
