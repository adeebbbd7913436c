"""npyflow's own loader; its builds are made with its command line."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf  # noqa: F401  # a training program has imported it: what is timed is the loader

from loaders import load as load_data_set
from peers.data import Rows

PACKAGES = ("tensorflow", "apache-beam", "tensorflow-transform", "numpy")


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch of `loaders.load`; of rows in memory, if `variant` says so, the second one."""
    batches = load_data_set(out, "train", batch_size=batch, shuffle=True, seed=1, in_memory=variant == "memory")
    if variant == "memory":
        for _ in batches:
            pass
        yield None
    for features in batches:
        yield features[rows.feature], features["labels"]
