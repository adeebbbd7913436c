"""npyflow's own loader; its builds are made with its command line."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf  # noqa: F401  # a training program has imported it: what is timed is the loader

import loaders
from peers.data import Rows

PACKAGES = ("tensorflow", "apache-beam", "tensorflow-transform", "numpy")


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch of `loaders.load`, or of `loaders.numpy.Loader` where `variant` says so."""
    load: Any = loaders.numpy.Loader if variant == "numpy" else loaders.load  # type: ignore[attr-defined]
    for features in load(out, "train", batch_size=batch, shuffle=True, seed=1):
        yield features[rows.feature], features["labels"]
