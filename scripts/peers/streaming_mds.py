"""MosaicML Streaming: `MDSWriter`, and `StreamingDataset` under a `DataLoader`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

from peers.data import Rows

PACKAGES = ("mosaicml-streaming", "torch")
WORKERS = 2


def write(rows: Rows, out: pathlib.Path) -> None:
    """Writes one sample a row, without compression."""
    shape = ",".join(map(str, rows.shape))
    columns = {rows.feature: f"ndarray:{rows.dtype}:{shape}", "labels": "int64"}
    with MDSWriter(out=str(out), columns=columns) as writer:
        for values, labels in rows.blocks():
            for value, label in zip(values, labels, strict=True):
                writer.write({rows.feature: value, "labels": label})


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch in the order of the default algorithm."""
    dataset = StreamingDataset(local=str(out), shuffle=True, shuffle_seed=0, batch_size=batch)
    for features in DataLoader(dataset, batch_size=batch, num_workers=WORKERS):
        yield features[rows.feature], features["labels"]
