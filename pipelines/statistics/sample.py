"""A sample of rows as a monoid: those with the least hashes, whatever the cut of the rows and the order of merging."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.storage.npz_bytes import by_name, dump_arrays, load_arrays

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

ROWS = 2048
"""Rows of a sample: the standard error of the share of values below a quantile is at most 1.1 per cent."""

ROW_VALUES = 16
"""Values of a row; of longer rows as many, evenly spread, from a place that differs by row."""

TEXT_BYTES = 64
"""Longer texts are cut: they may be files."""

SPARE = 8
"""Rows that are looked at for each that a sample holds: enough where one in eight is a training row."""

HASHES = "hashes"


def choose(hashes: U64, *, of: int) -> tuple[npt.NDArray[np.intp], U64]:
    """Which rows of a batch may be in the sample `of` about so many: their numbers, and hashes, which ascend."""
    # Greater hashes than their sample can have are not looked at.
    limit = np.uint64(min(2**64 * SPARE * ROWS // max(of, 1), 2**64 - 1))
    rows = np.flatnonzero(hashes <= limit)
    rows = rows[np.argsort(hashes[rows], kind="stable")[:ROWS]]
    return rows, hashes[rows]


@dataclasses.dataclass(frozen=True)
class Sample:
    """Some values of the rows with the least hashes.

    Attributes:
        hashes: The hashes of the rows, `[rows]`, ascending.
        values: The values of each row, `[rows, n]`; NaN is missing. Texts are bytes.
        lengths: Where rows have lengths of their own how many values each has, also those that are not here, `[rows]`;
            what `values` has beyond is zero.
        sizes: Of texts their bytes before they were cut, `[rows, n]`.
    """

    hashes: U64
    values: npt.NDArray[Any]
    lengths: I64 | None = None
    sizes: I64 | None = None

    @staticmethod
    def of(
        values: npt.NDArray[Any], hashes: U64, steps: I64 | None = None, *, rows: npt.NDArray[np.intp] | None = None
    ) -> Sample:
        """The sample of some rows, which `choose` has found.

        Args:
            values: `[rows, *shape]`; of rows with lengths of their own `[steps, *shape]`.
            hashes: The hashes of the rows.
            steps: The steps of each row, where rows have lengths of their own.
            rows: Which rows of `values` they are, where these are not all: of large rows little is copied.
        """
        elements = math.prod(values.shape[1:])
        lengths = (np.ones(len(hashes), np.int64) if steps is None else steps) * elements
        number = np.arange(min(elements, ROW_VALUES) if steps is None else ROW_VALUES)
        own, width = np.maximum(lengths, 1)[:, None], max(len(number), 1)
        first = (hashes[:, None] % own.astype(np.uint64)).astype(np.int64)
        places = np.where(own > width, (first + number * own // width) % own, number)
        there = number < lengths[:, None]
        starts = np.cumsum(lengths) - lengths if rows is None else rows * elements
        found = values.reshape(-1)[(starts[:, None] + places)[there]]
        text, sizes = values.dtype.kind == "S", np.zeros(there.shape, np.int64)
        picked = np.zeros(there.shape, f"S{TEXT_BYTES}" if text else values.dtype)
        picked[there] = found
        if text:
            sizes[there] = np.strings.str_len(found)
        return Sample(hashes, picked, None if steps is None else lengths, sizes if text else None)

    def merge(self, other: Sample) -> Sample:
        """The sample of two sets of rows together."""
        order = np.argsort(np.concatenate([self.hashes, other.hashes]), kind="stable")[:ROWS]
        mine, others = self.to_arrays(), other.to_arrays()
        return Sample(**{name: np.concatenate([mine[name], others[name]])[order] for name in mine})

    def below(self, rows: int) -> Sample:
        """What of this sample is in that of so many rows, of which these are some."""
        chosen, _ = choose(self.hashes, of=rows)
        return Sample(**{name: array[chosen] for name, array in self.to_arrays().items()})

    @property
    def there(self) -> npt.NDArray[np.bool_]:
        """Which of `values` are values of their row."""
        if self.lengths is None:
            return np.ones(self.values.shape, np.bool_)
        return np.arange(self.values.shape[1]) < self.lengths[:, None]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that there are, by name."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: array for name, array in named.items() if array is not None}


def dump_samples(samples: Mapping[str, Sample]) -> bytes:
    """Samples of the same rows as the bytes of an archive: `hashes`, once, and keys `<feature>/<field>`."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, own in samples.items():
        fields = own.to_arrays()
        arrays[HASHES] = fields.pop(HASHES)
        arrays |= {f"{name}/{key}": array for key, array in fields.items()}
    return dump_arrays(arrays)


def load_samples(data: bytes) -> dict[str, Sample]:
    """Reads what `dump_samples` wrote."""
    arrays = load_arrays(data)
    hashes = arrays.pop(HASHES, np.zeros(0, np.uint64))
    return {name: Sample(hashes, **own) for name, own in by_name(arrays).items()}
