"""Hashes of many rows sorted into files by their first bits, so that equal ones are found in bounded memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

BUCKET_ROWS = 2**18
"""About how many rows a bucket holds: sorting them takes some 40 MiB, whatever the data set's size."""

ENTRY = np.dtype([("first", "<u8"), ("second", "<u8"), ("row", "<u8")])
"""What is kept of a row: its hash, of 128 bits, and its number in the data set."""


class HashBuckets:
    """Entries of rows in files of a directory, by the first bits of their hashes."""

    def __init__(self, directory: str, rows: int) -> None:
        """Makes no file yet in the directory, for so many rows as will come."""
        self._directory = directory
        self._bits = max(math.ceil(math.log2(max(rows, 1) / BUCKET_ROWS)), 0)
        self._waiting: list[npt.NDArray[Any]] = []
        self._count = self._rows = 0

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Adds the rows that come next, given their hashes, uint64 `[rows, 2]`."""
        entries = np.empty(len(hashes), dtype=ENTRY)
        entries["first"], entries["second"] = hashes[:, 0], hashes[:, 1]
        entries["row"] = np.arange(self._rows, self._rows + len(hashes))
        self._rows += len(hashes)
        self._waiting.append(entries)
        self._count += len(entries)
        if self._count >= BUCKET_ROWS:
            self._spill()

    def _path(self, bucket: int) -> str:
        return os.path.join(self._directory, f"{bucket:06d}")

    def _spill(self) -> None:
        """Appends the waiting entries to their buckets; files are not kept open, as there may be thousands."""
        entries = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        # A shift by 64 bits would be no shift.
        numbers = (entries["first"] >> np.uint64(1)) >> np.uint64(63 - self._bits)
        entries = entries[np.argsort(numbers, kind="stable")]
        counts = np.bincount(numbers.astype(np.intp), minlength=1 << self._bits)
        stops = np.cumsum(counts)
        for bucket in np.flatnonzero(counts).tolist():
            with open(self._path(bucket), "ab") as file:
                file.write(entries[stops[bucket] - counts[bucket] : stops[bucket]].tobytes())

    def read(self) -> Iterator[npt.NDArray[Any]]:
        """Yields each bucket's entries, all rows of one hash in one bucket, and removes its file."""
        if self._waiting:
            self._spill()
        for bucket in range(1 << self._bits):
            path = self._path(bucket)
            if os.path.exists(path):
                yield np.fromfile(path, dtype=ENTRY)
                os.remove(path)
