"""Tells whether two tools delivered the same rows, whatever their order: a count and sums of hashes of the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-4
"""By how much of the sum of magnitudes the weighted sums of normalised rows may differ: they are float32."""

U64 = npt.NDArray[np.uint64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digest:
    """What the rows of a data set come to.

    Attributes:
        rows: How many there are.
        labels: The sum of their labels.
        exact: The sum, in 64 bits, of a hash of the bytes of each row and its label.
        weighted: The sum of each row's values, weighted by a hash of their place and of the row's label.
        magnitude: The same sum of the magnitudes of what each row adds.
    """

    rows: int
    labels: int
    exact: int
    weighted: float
    magnitude: float

    def same_values(self, other: Digest) -> bool:
        """Whether the rows are the same bit for bit."""
        return (self.rows, self.exact) == (other.rows, other.exact)

    def near(self, other: Digest) -> bool:
        """Whether the rows are the same but for rounding."""
        allowed = TOLERANCE * max(self.magnitude, other.magnitude)
        apart = max(abs(self.weighted - other.weighted), abs(self.magnitude - other.magnitude))
        return (self.rows, self.labels) == (other.rows, other.labels) and apart <= allowed


def digest(blocks: Iterable[tuple[Any, Any]]) -> Digest:
    """The digest of blocks of rows: values of shape [n, …] and labels of shape [n], as anything that NumPy takes."""
    rows, label_sum, exact, weighted, magnitude = 0, 0, 0, 0.0, 0.0
    for some_values, some_labels in blocks:
        values = np.ascontiguousarray(some_values)
        labels = np.asarray(some_labels).astype(np.int64).reshape(-1)
        for at in range(0, len(labels), step := max(1, 2**22 // max(1, values[:1].nbytes))):
            block, classes = values[at : at + step].reshape(min(step, len(labels) - at), -1), labels[at : at + step]
            exact = (exact + _hash(block, classes)) % 2**64
            added = _weigh(block, classes)
            weighted += float(added.sum())
            magnitude += float(np.abs(added).sum())
        rows += len(labels)
        label_sum += int(labels.sum())
    return Digest(rows=rows, labels=label_sum, exact=exact, weighted=weighted, magnitude=magnitude)


def _mix(x: U64) -> U64:
    """The output function of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hash(values: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> int:
    octets = values.view(np.uint8)
    spare = -octets.shape[1] % 8
    words = np.pad(octets, ((0, 0), (0, spare))).view(np.uint64) if spare else octets.view(np.uint64)
    weights = _mix(np.arange(1, words.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    return int(_mix((words * weights).sum(axis=1) ^ _mix(labels.astype(np.uint64))).sum())


def _weigh(values: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    places = _unit(np.arange(values.shape[1], dtype=np.uint64))
    return (np.nan_to_num(values.astype(np.float64)) @ places) * _unit(labels.astype(np.uint64) + np.uint64(2**32))


def _unit(x: U64) -> npt.NDArray[np.float64]:
    """Numbers in [-1, 1)."""
    return (_mix(x + np.uint64(1)) >> np.uint64(11)).astype(np.float64) / 2**52 - 1
