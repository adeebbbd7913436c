"""How well an order mixes classes, against a true permutation. NumPy only."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders import order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixing:
    """The class counts of batches, compared with those of true permutations.

    Attributes:
        chi_square: The sum over batches and classes of (found - expected)**2 / expected.
        expected: Its mean over permutations, in closed form.
        deviation: Its standard deviation over permutations, from draws.
        z: How many deviations `chi_square` is from `expected`: far above 0, batches have too much of few classes; far
            below, they are more even than chance.
        p: The probability that a permutation's is as large or larger, by the normal approximation.
    """

    chi_square: float
    expected: float
    deviation: float
    z: float
    p: float


def mixing(labels: npt.NDArray[Any], *, batch_size: int, draws: int = 200, seed: int = 0) -> Mixing:
    """Compares the batches of an order with those of true permutations.

    Of N rows that are permuted, a batch of B has as many of class c as a multivariate hypergeometric draw, whose
    variance is `B p (1 - p) (N - B) / (N - 1)` with `p` the share of the class (Johnson, Kotz and Balakrishnan,
    "Discrete Multivariate Distributions", 1997, chapter 39). So over b batches and C classes the mean of the chi-square
    is `b (C - 1) (N - B) / (N - 1)`.

    Args:
        labels: The class of each row in the order, of shape [rows]; what does not fill a batch is left out of the
            counts.
        batch_size: The rows of a batch.
        draws: How many permutations the deviation comes from.
        seed: The seed of the permutations.

    Returns:
        The comparison.

    Raises:
        ValueError: If there are less than two batches, or less than two classes.
    """
    classes, numbers = np.unique(labels, return_inverse=True)
    rows, batches = len(labels), len(labels) // batch_size
    if batches < 2 or len(classes) < 2:
        raise ValueError(f"expected two batches and two classes; found {batches} and {len(classes)}")
    share = np.bincount(numbers) / rows
    found = _chi_square(numbers, share, batch_size)
    chance = np.array(
        [_chi_square(numbers[order.shuffled(order.derive(seed, n), rows)], share, batch_size) for n in range(draws)]
    )
    expected = batches * (len(classes) - 1) * (rows - batch_size) / (rows - 1)
    deviation = float(chance.std(ddof=1))
    z = (found - expected) / deviation
    return Mixing(chi_square=found, expected=expected, deviation=deviation, z=z, p=0.5 * math.erfc(z / math.sqrt(2.0)))


def _chi_square(numbers: npt.NDArray[np.int64], share: npt.NDArray[np.float64], batch_size: int) -> float:
    batches = len(numbers) // batch_size
    cells = np.arange(batches * batch_size) // batch_size * len(share) + numbers[: batches * batch_size]
    counts = np.bincount(cells, minlength=batches * len(share)).reshape(batches, len(share))
    expected = batch_size * share
    return float(((counts - expected) ** 2 / expected).sum())


def epoch_mixing(
    root: str | os.PathLike[str], split: str, *, label: str, batch_size: int, seed: int = 0, epoch: int = 0
) -> Mixing:
    """Compares an epoch of a loader with true permutations.

    Args:
        root: The directory of a finished build, a local one.
        split: The name of a split.
        label: The feature that tells the class of a row, one value a row.
        batch_size: The rows of a batch.
        seed: The seed of the order.
        epoch: The number of the epoch.

    Returns:
        The comparison.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        ValueError: If there is no such feature, or there are less than two batches or classes.
    """
    from loaders import numpy

    loader = numpy.Loader(root, split, batch_size=batch_size, seed=seed, features=[label])
    loader.load_state_dict(loader.state_dict() | {"epoch": epoch})
    labels = np.concatenate([batch[label] for batch in loader])
    if labels.ndim != 1:
        raise ValueError(f"{label}: expected one value a row; found rows of shape {labels.shape[1:]}")
    return mixing(labels, batch_size=batch_size, seed=seed)
