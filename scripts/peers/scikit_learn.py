"""scikit-learn for more rows than memory holds: `partial_fit` over memory-mapped files, plain arrays out."""

from __future__ import annotations

import pathlib

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler

from peers.arrays import load
from peers.data import Data

__all__ = ["PACKAGES", "build", "load"]

PACKAGES = ("scikit-learn", "numpy")


def build(data: Data, out: pathlib.Path, *, variant: str) -> None:
    """Imputes the mean and scales, and shuffles the blocks and the rows of each, in one process.

    `SimpleImputer` has no `partial_fit`: the mean is that of a first scaler, which disregards NaN. So floats are read
    three times, and pictures, which have no NaN, twice.
    """
    out.mkdir(parents=True)
    places = data.ranges()
    rng = np.random.default_rng(0)
    rng.shuffle(places)
    mean = _fit(data, places, None).mean_ if data.kind.dtype == "float32" else None
    scaler = _fit(data, places, mean)
    with (out / "values-0.bin").open("wb") as values_file, (out / "labels-0.bin").open("wb") as labels_file:
        for place in places:
            values, labels = data.read(*place)
            order = rng.permutation(len(labels))
            flat = _filled(values[order].reshape(-1, data.kind.channels), mean)
            scaler.transform(flat.astype(np.float32, copy=False)).tofile(values_file)
            labels[order].tofile(labels_file)


def _fit(data: Data, places: list[tuple[int, int, int]], mean: npt.NDArray[np.float64] | None) -> StandardScaler:
    scaler = StandardScaler()
    for place in places:
        values, _ = data.read(*place)
        scaler.partial_fit(_filled(values.reshape(-1, data.kind.channels), mean))
    return scaler


def _filled(values: npt.NDArray[np.generic], mean: npt.NDArray[np.float64] | None) -> npt.NDArray[np.generic]:
    if mean is None:
        return values
    return np.where(np.isnan(values), mean.astype(values.dtype), values)
