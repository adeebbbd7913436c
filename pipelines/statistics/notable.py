"""Which of many columns a person is shown: the first, the strangest, the last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.statistics.summary import F64, Statistics

COLUMNS = (8, 8, 4)
"""Of more columns than this in all: how many are shown of the first, the strangest of the others, and the last."""


def strangeness(statistics: Statistics) -> F64:
    """How strange each column is, `[columns]`: constant before full of holes before far from its mean."""
    flat = {name: np.ravel(values) for name, values in statistics.arrays().items()}
    missing = flat["missing"] / np.maximum(flat["count"] + flat["missing"], 1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        far = np.fmax(flat["max"] - flat["mean"], flat["mean"] - flat["min"]) / flat["std"]
    far = np.nan_to_num(far, nan=0.0, posinf=0.0, neginf=0.0)
    strange: F64 = 1000.0 * (flat["min"] == flat["max"]) + 100 * missing + far
    return strange


def notable(strange: Sequence[float] | F64, many: tuple[int, int, int] = COLUMNS) -> list[int]:
    """The numbers of what is shown, ascending; all where there are few."""
    count = len(strange)
    if count <= sum(many):
        return list(range(count))
    first, strangest, last = many
    ends = {*range(first), *range(count - last, count)}
    by_strangeness = np.argsort(-np.asarray(strange, dtype=np.float64), kind="stable").tolist()
    return sorted(ends | {*[number for number in by_strangeness if number not in ends][:strangest]})
