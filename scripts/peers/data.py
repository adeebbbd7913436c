"""The arrays that are measured: made here, read in blocks, and normalised as the oracle does it."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.generic]
Labels = npt.NDArray[np.int64]
Block = tuple[Values, Labels]

SIZES = {"nothing": 0, "tiny": 5 * 10**6, "small": 10**8, "medium": 10**9, "large": 10**10}
"""Bytes of the sources; "nothing" has as few rows as can be, to tell what a start costs."""
CLASSES = 10
CUBE_WIDTH = 128
BLOCK_BYTES = 2**22


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of rows.

    Attributes:
        feature: The name of the feature beside `labels`.
        dtype: Its dtype in the sources.
        shape: Its shape in a row.
        channels: How many statistics it has, each of the elements of one place on the last axis.
        row_axes: How many axes of its arrays count rows; with two the arrays are in Fortran order.
        part_bytes: The largest file; None for one row a file.
        parts: The fewest files.
    """

    feature: str
    dtype: str
    shape: tuple[int, ...]
    channels: int
    row_axes: int = 1
    part_bytes: int | None = 256 * 2**20
    parts: int = 8

    @property
    def row_bytes(self) -> int:
        """The bytes of a row with its label."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize + 8


TABULAR = Kind(feature="features", dtype="float32", shape=(32,), channels=32)

KINDS = {
    "tabular": TABULAR,
    "images": Kind(feature="images", dtype="uint8", shape=(64, 64, 3), channels=3),
    "cube": Kind(feature="pixels", dtype="uint16", shape=(200,), channels=200, row_axes=2),
    "wide": Kind(feature="features", dtype="float32", shape=(2**18,), channels=2**18),
}

LAYOUTS = {
    "one-file": dataclasses.replace(TABULAR, part_bytes=2**50, parts=1),
    "one-row-a-file": dataclasses.replace(TABULAR, part_bytes=None),
}
"""Tabular rows in other files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """What a peer stores: the rows of the sources as they are, or normalised.

    Attributes:
        feature: The name of the feature beside `labels`.
        dtype: Its dtype.
        shape: Its shape in a row.
        count: How many rows there are.
        blocks: Reads them in the order of the sources: values of shape [n, *shape] in C order, labels of shape [n].
    """

    feature: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    blocks: Callable[[], Iterator[Block]]

    @property
    def row_bytes(self) -> int:
        """The bytes of a row with its label."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize + 8

    @property
    def window(self) -> int:
        """The rows of a shuffle buffer: 100,000, and no more than 256 MiB."""
        return max(1, min(self.count, 100_000, 2**28 // self.row_bytes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """A directory of arrays, `<feature>-000.npy` and `labels-000.npy` and so on."""

    root: pathlib.Path
    name: str
    counts: tuple[int, ...]

    @property
    def kind(self) -> Kind:
        """What a row is."""
        return (KINDS | LAYOUTS)[self.name]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(self.counts)

    def paths(self, part: int) -> tuple[pathlib.Path, pathlib.Path]:
        """The files of one part: values, labels."""
        return _paths(self.root, self.kind, part)

    def arrays(self, part: int) -> tuple[Values, Labels]:
        """The memory-mapped arrays of one part, as they are in their files."""
        values, labels = self.paths(part)
        return np.load(values, mmap_mode="r"), np.load(labels, mmap_mode="r")

    def ranges(self, size: int = BLOCK_BYTES) -> list[tuple[int, int, int]]:
        """Cuts the parts into runs of the first axis of about `size` bytes: part, begin, end."""
        found = []
        for part in range(len(self.counts)):
            values, _ = self.arrays(part)
            step = max(1, size * len(values) // max(1, values.nbytes))
            found += [(part, at, min(at + step, len(values))) for at in range(0, len(values), step)]
        return found

    def read(self, part: int, begin: int, end: int) -> Block:
        """The rows of one run of the first axis, in C order."""
        values, labels = self.arrays(part)
        return (
            np.ascontiguousarray(values[begin:end]).reshape(-1, *self.kind.shape),
            np.ascontiguousarray(labels[begin:end]).reshape(-1),
        )

    def raw(self) -> Rows:
        """The rows as they are in the sources."""

        def blocks() -> Iterator[Block]:
            for place in self.ranges():
                yield self.read(*place)

        kind = self.kind
        return Rows(feature=kind.feature, dtype=kind.dtype, shape=kind.shape, count=self.count, blocks=blocks)

    def normalised(self) -> Rows:
        """The rows with missing values replaced by the mean, of mean 0 and deviation 1, as float32."""

        def blocks() -> Iterator[Block]:
            mean, deviation = self.statistics()
            for place in self.ranges():
                values, labels = self.read(*place)
                yield normalise(values, mean, deviation), labels

        kind = self.kind
        return Rows(feature=kind.feature, dtype="float32", shape=kind.shape, count=self.count, blocks=blocks)

    def statistics(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean of what is not NaN, and deviation (of the population) once NaN is the mean: float64, [channels]."""
        sums = [self.sums(place) for place in self.ranges()]
        return finish(functools.reduce(lambda a, b: a + b, sums), self.kind.channels)

    def sums(self, place: tuple[int, int, int]) -> npt.NDArray[np.float64]:
        """Rows, and count, sum and sum of squares of what is not NaN, of shape [4, elements of a row].

        They are about 100, which is near the mean of all kinds; a variance of sums of squares needs no more.
        """
        values, _ = self.read(*place)
        wide = values.reshape(len(values), -1).astype(np.float64)
        wide -= 100.0
        rows = np.full(wide.shape[1], len(wide), np.float64)
        count = rows.copy()
        if values.dtype.kind == "f":
            missing = np.isnan(wide)
            count -= np.count_nonzero(missing, axis=0)
            wide[missing] = 0
        return np.stack([rows, count, wide.sum(axis=0), np.einsum("ij,ij->j", wide, wide)])


def finish(sums: npt.NDArray[np.float64], channels: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and deviation of the sums of `Data.sums`, of shape [channels]."""
    rows, count, total, squares = sums.reshape(4, -1, channels).sum(axis=1)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares - count * mean**2, 0) / rows)
    return mean + 100.0, np.where(deviation > 0, deviation, 1.0)


def normalise(
    values: Values, mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """The z-scores of values of shape [n, …, channels], and 0 where a value is NaN."""
    scores = values.astype(np.float32)
    scores -= mean.astype(np.float32)
    scores *= (1 / deviation).astype(np.float32)
    if values.dtype.kind == "f":
        np.nan_to_num(scores, copy=False, nan=0.0)
    return scores


def _paths(root: pathlib.Path, kind: Kind, part: int) -> tuple[pathlib.Path, pathlib.Path]:
    number = f"{part:03d}" if kind.part_bytes else f"{part:06d}"
    return root / f"{kind.feature}-{number}.npy", root / f"labels-{number}.npy"


def make(root: pathlib.Path, name: str, size: str | int) -> Data:
    """Makes the arrays of one kind and size under `root`, unless they are there already.

    Args:
        root: Where `<name>-<size>` is.
        name: One of `KINDS` or `LAYOUTS`.
        size: One of `SIZES`, or bytes.
    """
    directory = root / f"{name}-{size}"
    said = directory / "data.json"
    if not said.exists():
        source = directory / "source"
        source.mkdir(parents=True, exist_ok=True)
        entries = _plan((KINDS | LAYOUTS)[name], SIZES[size] if isinstance(size, str) else size)
        counts = [_make_part(source, name, part, rows) for part, rows in enumerate(entries)]
        said.write_text(json.dumps({"name": name, "counts": counts}))
    return open_data(directory)


def open_data(directory: pathlib.Path) -> Data:
    """Opens what `make` has made."""
    found = json.loads((directory / "data.json").read_text())
    return Data(root=directory / "source", name=found["name"], counts=tuple(found["counts"]))


def _plan(kind: Kind, size: int) -> list[int]:
    """How many entries the first axis of each part has."""
    rows = max(kind.parts, size // kind.row_bytes)
    parts = max(kind.parts, -(-size // kind.part_bytes)) if kind.part_bytes else rows
    per_entry = CUBE_WIDTH if kind.row_axes == 2 else 1
    return [max(1, (rows * (i + 1) // parts - rows * i // parts) // per_entry) for i in range(parts)]


def _make_part(source: pathlib.Path, name: str, part: int, entries: int) -> int:
    """Writes one part; returns its rows."""
    kind, rng = (KINDS | LAYOUTS)[name], np.random.default_rng([part, *name.encode()])
    values_path, labels_path = _paths(source, kind, part)
    leading = (entries,) if kind.row_axes == 1 else (entries, CUBE_WIDTH)
    values = np.lib.format.open_memmap(
        values_path,
        mode="w+",
        dtype=kind.dtype,
        shape=(*leading, *kind.shape),
        fortran_order=kind.row_axes == 2,
    )
    step = max(1, BLOCK_BYTES * entries // values.nbytes)
    for at in range(0, entries, step):
        block = values[at : at + step]
        if kind.dtype == "float32":
            numbers = rng.standard_normal(block.shape, np.float32)
            numbers *= np.linspace(0.5, 20, kind.shape[-1], dtype=np.float32)
            numbers += 100
            if kind.shape == TABULAR.shape:
                numbers[rng.random(block.shape, np.float32) < 0.05] = np.nan
            block[...] = numbers
        else:
            block[...] = rng.integers(0, 256 if kind.dtype == "uint8" else 4096, block.shape, kind.dtype)
    values.flush()
    np.save(labels_path, rng.integers(0, CLASSES, leading))
    return math.prod(leading)
