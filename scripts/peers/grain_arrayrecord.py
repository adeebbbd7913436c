"""ArrayRecord files, and Grain's `MapDataset` over them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from array_record.python import array_record_module

from peers.data import Rows

PACKAGES = ("grain", "array-record")
FILES = 8
WORKERS = 2


def write(rows: Rows, out: pathlib.Path) -> None:
    """A record is the bytes of a row and of its label; groups of one record are what random access needs."""
    out.mkdir(parents=True)
    writers = [
        array_record_module.ArrayRecordWriter(str(out / f"rows-{number}.array_record"), "group_size:1")
        for number in range(FILES)
    ]
    number = 0
    for values, labels in rows.blocks():
        for value, label in zip(values, labels, strict=True):
            writers[number % FILES].write(value.tobytes() + label.tobytes())
            number += 1
    for writer in writers:
        writer.close()


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch in a global order, read by threads or, where `variant` is "processes", by two processes."""
    source = grain.sources.ArrayRecordDataSource(sorted(map(str, out.glob("*.array_record"))))
    dataset = grain.MapDataset.source(source).shuffle(seed=0).map(Parse(rows.dtype, rows.shape)).to_iter_dataset()
    dataset = dataset.batch(batch)
    if variant == "processes":
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=WORKERS))
    yield from dataset


class Parse(grain.transforms.Map):
    """Makes a row of a record; a class, for processes to pickle."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self._dtype, self._shape = dtype, shape

    def map(self, record: bytes) -> tuple[Any, Any]:
        """The values and the label."""
        return np.frombuffer(record[:-8], self._dtype).reshape(self._shape), np.frombuffer(record[-8:], np.int64)[0]
