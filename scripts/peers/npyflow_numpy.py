"""npyflow's loader of NumPy arrays, which imports no TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import loaders.numpy
from peers.data import Rows

PACKAGES = ("numpy",)


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch of `loaders.numpy.Loader`."""
    for features in loaders.numpy.Loader(out, "train", batch_size=batch, shuffle=True, seed=1):
        yield features[rows.feature], features["labels"]
