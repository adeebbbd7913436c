"""Columnar batches: one array for each feature, or rows of different lengths one after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ragged:
    """Rows of different lengths, one after the other.

    Attributes:
        values: The rows' values, `[sum of lengths, *inner shape]`.
        lengths: The length of each row, int64 `[rows]`.
    """

    values: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.values) != int(self.lengths.sum()):
            found = f"{len(self.values)} values for lengths that add up to {int(self.lengths.sum())}"
            raise ValueError(f"expected a value for each step of each row; found {found}")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Any) -> Ragged:
        """Some rows: an array of numbers, a mask, or a slice."""
        ends = np.cumsum(self.lengths)
        if isinstance(rows, slice) and (rows.step or 1) == 1:
            start, stop, _ = rows.indices(len(self))
            first = int(ends[start - 1]) if start else 0
            last = int(ends[stop - 1]) if stop > start else first
            return Ragged(values=self.values[first:last], lengths=self.lengths[rows])
        lengths = self.lengths[rows]
        begins = (ends - self.lengths)[rows] - (np.cumsum(lengths) - lengths)
        numbers = np.repeat(begins, lengths) + np.arange(int(lengths.sum()))
        return Ragged(values=self.values[numbers], lengths=lengths)


Columns = dict[str, Any]
"""Feature name → `[rows, *shape]`, or `Ragged` where rows differ in length; every one has the same number of rows."""


def values_of(column: npt.NDArray[Any] | Ragged) -> npt.NDArray[Any]:
    """The values of a column; of rows of different lengths, one row after the other."""
    return column.values if isinstance(column, Ragged) else column


def with_values(column: npt.NDArray[Any] | Ragged, values: npt.NDArray[Any]) -> npt.NDArray[Any] | Ragged:
    """Other values in the rows of a column."""
    return Ragged(values=values, lengths=column.lengths) if isinstance(column, Ragged) else values


def masked_values(columns: Columns, mask: str, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which values a mask says are missing; with an axis of length 1 for each that only `values` has."""
    flags: npt.NDArray[np.bool_] = values_of(columns[mask]) != 0
    return flags.reshape(*flags.shape, *[1] * (values.ndim - flags.ndim))


def take(columns: Columns, rows: Any) -> Columns:
    """Some rows of each column, by number, by mask or as a slice."""
    return {name: values[rows] for name, values in columns.items()}
