"""WebDataset: tar files, and a `WebLoader`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import webdataset as wds

from peers.data import Rows

PACKAGES = ("webdataset", "torch")
FILES = 8
WORKERS = 2


def write(rows: Rows, out: pathlib.Path) -> None:
    """Writes one sample a row, as `.npy` and `.cls`."""
    out.mkdir(parents=True)
    number = 0
    with wds.ShardWriter(str(out / "rows-%06d.tar"), maxcount=-(-rows.count // FILES), verbose=0) as writer:
        for values, labels in rows.blocks():
            for value, label in zip(values, labels, strict=True):
                writer.write({"__key__": f"{number:09d}", "values.npy": value, "label.cls": int(label)})
                number += 1


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch with shuffled shards and a buffer of 1,000 rows; batches are made by the workers."""
    files = sorted(map(str, out.glob("*.tar")))
    dataset = wds.WebDataset(files, shardshuffle=len(files), seed=0).shuffle(1000).decode()
    dataset = dataset.to_tuple("values.npy", "label.cls").batched(batch)
    yield from wds.WebLoader(dataset, batch_size=None, num_workers=min(WORKERS, len(files)))
