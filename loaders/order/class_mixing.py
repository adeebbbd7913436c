"""How well an order mixes classes, against a true permutation. Pure arithmetic."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

CHANCE = 1e-4
"""A chi-square that fewer permutations than this share reach is not put down to chance."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffleQuality:
    """The class counts of batches, compared with those of true permutations.

    Attributes:
        batches: How many batches were counted.
        classes: How many classes there are.
        chi_square: The sum over batches and classes of (found - expected)**2 / expected.
        expected: Its mean over permutations.
        deviation: Its standard deviation over permutations.
        z: How many deviations `chi_square` is from `expected`: far above 0, batches have too much of few classes; far
            below, they are more even than chance.
        p: The probability that a permutation's is as large or larger.
    """

    batches: int
    classes: int
    chi_square: float
    expected: float
    deviation: float
    z: float
    p: float

    @property
    def like_chance(self) -> bool:
        """Whether batches have their classes as evenly as those of a permutation: `p` is at least `CHANCE`."""
        return self.p >= CHANCE


def compare_labels(labels: npt.NDArray[Any], *, batch_size: int) -> ShuffleQuality:
    """Compares the batches of an order with those of true permutations.

    The counts of batches and classes are a table whose margins no permutation changes. Over permutations of N rows, b
    batches and C classes, the chi-square has the mean `N (b - 1) (C - 1) / (N - 1)` and a variance that depends on the
    margins (Haldane, "The mean and variance of chi-squared, when used as a test of homogeneity, when expectations are
    small", Biometrika 31, 1940; Dawson, "A simplified expression for the variance of the chi-squared function on a
    contingency table", Biometrika 41, 1954). Both are exact. `p` is that of the gamma distribution of this mean and
    variance, by the approximation of Wilson and Hilferty ("The distribution of chi-square", PNAS 17, 1931).

    Args:
        labels: The class of each row in the order, of shape [rows]; what does not fill a batch counts as part of the
            last one.
        batch_size: The rows of a batch.

    Returns:
        The comparison.

    Raises:
        ValueError: If there are less than two batches or less than two classes, or each row or batch stands alone.
    """
    names, numbers, columns = np.unique(labels, return_inverse=True, return_counts=True)
    rows, batches, classes = len(labels), len(labels) // batch_size, len(names)
    if batches < 2 or classes < 2:
        raise ValueError(f"expected two batches and two classes; found {batches} and {classes}")
    batch = np.minimum(np.arange(rows) // batch_size, batches - 1)
    sizes = np.bincount(batch)
    # Only the cells that hold a row, of which there are at most as many as rows, however many classes there are.
    cells, counts = np.unique(batch * classes + numbers, return_counts=True)
    share = counts / sizes[cells // classes] * (counts / columns[cells % classes])
    found = rows * (float(share.sum()) - 1)
    expected, deviation = _permuted(sizes, columns)
    if not deviation > 0:
        raise ValueError(f"expected classes and batches of several rows; found {classes} classes of {rows} rows")
    z = (found - expected) / deviation
    return ShuffleQuality(
        batches=batches,
        classes=classes,
        chi_square=found,
        expected=expected,
        deviation=deviation,
        z=z,
        p=_upper_tail(found, expected, deviation),
    )


def _permuted(sizes: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The mean and the deviation of the chi-square over permutations, from both margins of the table."""
    rows = int(sizes.sum())
    if rows < 4:
        return 0.0, 0.0
    (v1, w1), (v2, w2) = (
        (
            (len(margin) - 1) * (rows - len(margin)) / (rows - 1),
            (float((rows / margin).sum()) - len(margin) ** 2) / (rows - 2),
        )
        for margin in (sizes, columns)
    )
    variance = 2 * rows / (rows - 3) * (v1 - w1) * (v2 - w2) + rows * rows / (rows - 1) * w1 * w2
    mean = rows * (len(sizes) - 1) * (len(columns) - 1) / (rows - 1)
    # Where no permutation changes the chi-square, what is left of the variance is rounding.
    return mean, math.sqrt(variance) if variance > 1e-9 * mean else 0.0


def _upper_tail(value: float, mean: float, deviation: float) -> float:
    """The probability that a variable of a gamma distribution is at least `value`."""
    ninth = (deviation / mean) ** 2 / 9
    root = math.copysign(abs(value / mean) ** (1 / 3), value)
    return 0.5 * math.erfc((root - (1 - ninth)) / math.sqrt(2 * ninth))
