"""How far the values of some rows differ from those of others: means, deviations, missing values, classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.statistics.summary import F64, Statistics

CHANCE = 5.0
"""Standard errors by which two samples of one distribution may differ in one of a million elements."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
    """How far a feature has drifted; each number is that of the element where it is largest.

    Attributes:
        shift: The difference of the means, in deviations of the reference; where that has no deviation, in its unit.
        ratio: The deviation divided by that of the reference, where the two differ most; above or below 1.
        missing: The difference of the rates of missing values.
    """

    shift: float
    ratio: float
    missing: float

    @property
    def spread(self) -> float:
        """The ratio as a factor: at least 1, whichever deviation is the greater."""
        return max(self.ratio, 1 / self.ratio) if self.ratio else float("inf")


def compare(reference: Statistics, found: Statistics, *, errors: float = 0.0) -> Drift:
    """Compares the statistics of a feature with those of a reference, element by element.

    Args:
        reference: What the feature was.
        found: What it is; of the same shape. An element without a value in either counts for its missing rate only.
        errors: How many standard errors each difference is made smaller by, as so much comes by chance. For means and
            rates they are those of two independent samples, for the logarithm of a ratio those of normal values.

    Returns:
        The drift: no shift, a ratio of 1 and no difference where there is nothing to compare.
    """
    counts = [np.maximum(side.count, 1).astype(np.float64) for side in (reference, found)]
    chance = errors * np.sqrt(1 / counts[0] + 1 / counts[1])
    both = (reference.count > 0) & (found.count > 0)
    with np.errstate(invalid="ignore", over="ignore"):
        scale = np.where(reference.std > 0, reference.std, 1.0)  # a constant feature is scaled by 1
        shifts = np.abs(found.mean - reference.mean) / scale
    return Drift(
        shift=_largest(np.maximum(shifts - chance, 0.0), both),
        ratio=_ratio(reference.std, found.std, chance / np.sqrt(2.0), both),
        missing=_largest(_missing(reference, found, errors), np.ones_like(both)),
    )


def _ratio(reference: F64, found: F64, chance: F64, both: npt.NDArray[np.bool_]) -> float:
    """The ratio of deviations whose logarithm, made smaller by `chance`, is furthest from 0."""
    same = found == reference  # 0 and 0 too
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        logs = np.where(same, 0.0, np.log(found / reference))
        logs = np.sign(logs) * np.maximum(np.abs(logs) - chance, 0.0)
        known = np.ravel(logs)[np.ravel(both & ~np.isnan(logs))]
        return float(np.exp(known[np.argmax(np.abs(known))])) if known.size else 1.0


def _missing(reference: Statistics, found: Statistics, errors: float) -> F64:
    rows = [np.maximum(side.count + side.missing, 1).astype(np.float64) for side in (reference, found)]
    rates = [side.missing / total for side, total in zip((reference, found), rows, strict=True)]
    pooled = (reference.missing + found.missing) / (rows[0] + rows[1])
    chance = errors * np.sqrt(pooled * (1 - pooled) * (1 / rows[0] + 1 / rows[1]))
    empty = (reference.count + reference.missing == 0) | (found.count + found.missing == 0)
    return np.where(empty, 0.0, np.maximum(np.abs(rates[1] - rates[0]) - chance, 0.0))


def _largest(values: F64, known: npt.NDArray[np.bool_]) -> float:
    chosen = np.ravel(values)[np.ravel(known)]
    return float(np.max(chosen[~np.isnan(chosen)], initial=0.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassDrift:
    """How far the classes of a label have drifted.

    Attributes:
        distance: The largest difference of a class's shares: the L-infinity distance, as TensorFlow Data Validation
            has it for categorical features.
        new: The classes that the reference does not have, ascending.
    """

    distance: float
    new: npt.NDArray[Any]


Classes = tuple[npt.NDArray[Any], npt.NDArray[np.int64]]
"""The distinct values, ascending, and how often each occurs."""


def compare_classes(reference: Classes, found: Classes, *, errors: float = 0.0) -> ClassDrift:
    """Compares how often classes occur; each difference is made smaller by so many standard errors.

    Returns:
        The drift; a distance of 0 where either has no value.
    """
    sides = [_used(side) for side in (reference, found)]
    values = np.union1d(sides[0][0], sides[1][0])
    counts = [np.zeros(len(values), dtype=np.int64) for _ in sides]
    for placed, (own, own_counts) in zip(counts, sides, strict=True):
        placed[np.searchsorted(values, own)] = own_counts
    new = values[(counts[0] == 0) & (counts[1] > 0)]
    totals = [int(side.sum()) for side in counts]
    if not all(totals):
        return ClassDrift(distance=0.0, new=new)
    pooled = (counts[0] + counts[1]) / sum(totals)
    chance = errors * np.sqrt(pooled * (1 - pooled) * sum(1 / total for total in totals))
    differences = np.abs(counts[1] / totals[1] - counts[0] / totals[0]) - chance
    return ClassDrift(distance=float(np.max(differences, initial=0.0)), new=new)


def _used(classes: Classes) -> Classes:
    """Classes that occur; text as bytes, as sources give it."""
    values, counts = classes
    values = np.strings.encode(values, "utf-8") if values.dtype.kind == "U" else values
    return values[counts > 0], counts[counts > 0]
