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
    """An epoch of `loaders.load` or `loaders.numpy.Loader`; of rows in memory, if `variant` says so, the second one."""
    options: dict[str, Any] = {"batch_size": batch, "shuffle": True, "seed": 1}
    if variant == "numpy":
        batches: Any = loaders.numpy.Loader(out, "train", **options)  # type: ignore[attr-defined]
    else:
        batches = loaders.load(out, "train", in_memory=variant == "memory", **options)
    if variant == "memory":
        for _ in batches:
            pass
        yield None
    for features in batches:
        yield features[rows.feature], features["labels"]
