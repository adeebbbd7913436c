"""PyTorch: a `DataLoader` over memory-mapped arrays."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from peers.arrays import open_arrays, write
from peers.data import Rows

__all__ = ["PACKAGES", "load", "write"]

PACKAGES = ("torch", "numpy")
WORKERS = 2


class Arrays(Dataset[Any]):
    """A map-style data set of `.npy` files."""

    def __init__(self, out: pathlib.Path) -> None:
        self._values, self._labels = open_arrays(out)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return np.array(self._values[index]), self._labels[index]


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch in random order, with two workers."""
    yield from DataLoader(Arrays(out), batch_size=batch, shuffle=True, num_workers=WORKERS)
