"""What every statistic of the training rows is: accumulators of units of rows, merged in any order, in some passes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Estimator(Protocol):
    """A statistic that is computed in passes over units of rows.

    The result is the same, to the last bit, for any cut of the rows into units and any order of merging. Estimators are
    frozen dataclasses: picklable and hashable.
    """

    @property
    def passes(self) -> int:
        """How many times the data are read; known before any data."""

    def start(self) -> Any:
        """The state before the first pass: NumPy arrays in dataclasses, picklable."""

    def accumulate(self, state: Any, values: Any) -> Any:
        """The accumulator of one unit in the pass that follows `state`.

        Args:
            state: The state before the pass.
            values: `[rows, *shape]`; NaN in floats is missing. No rows give the neutral accumulator.
        """

    def merge(self, a: Any, b: Any) -> Any:
        """Two accumulators of one pass together: associative, commutative and exact."""

    def update(self, state: Any, accumulator: Any) -> Any:
        """The state after a pass over all rows."""

    def result(self, state: Any) -> dict[str, npt.NDArray[Any]]:
        """The arrays that the state after the last pass stands for, by name."""


class OnePass(Estimator):
    """What estimators that read the data once share: their state is what has been added up, and goes on."""

    passes: int = 1

    def update(self, state: Any, accumulator: Any) -> Any:
        return self.merge(state, accumulator)


def add_counts(
    codes: npt.NDArray[Any], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Sorts codes `[n]` and adds up the counts, int64 `[n]`, of equal ones: the codes, each once, and their counts.

    Two sorted runs, one after the other, are merged in linear time.
    """
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    starts = run_starts(codes)
    return codes[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def run_starts(ordered: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where each of the distinct values begins among sorted ones (`np.unique` would sort, or hash, them once more)."""
    return np.flatnonzero(np.concatenate([np.ones(min(len(ordered), 1), np.bool_), ordered[1:] != ordered[:-1]]))
