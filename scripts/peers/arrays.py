"""Plain NumPy, the floor: two passes over memory-mapped files to build, rows of a memory-mapped array to load."""

from __future__ import annotations

import functools
import multiprocessing
import pathlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from peers.data import Block, Data, Rows, finish, normalise

PACKAGES = ("numpy",)


def build(data: Data, out: pathlib.Path, *, variant: str) -> None:
    """Normalises the rows, and shuffles the blocks and the rows of each; `variant` is the number of processes."""
    out.mkdir(parents=True)
    places = data.ranges()
    np.random.default_rng(0).shuffle(places)
    workers = int(variant)
    shares = [places[i::workers] for i in range(workers)]
    context = multiprocessing.get_context("fork")
    if workers == 1:
        learned = finish(_add(shares[0], data), data.kind.channels)
        _write((0, shares[0]), data, learned, out)
        return
    with context.Pool(workers) as pool:
        sums = functools.reduce(np.add, pool.imap(functools.partial(_add, data=data), shares))
        learned = finish(sums, data.kind.channels)
        pool.map(functools.partial(_write, data=data, learned=learned, out=out), enumerate(shares))


def _add(places: list[tuple[int, int, int]], data: Data) -> npt.NDArray[np.float64]:
    sums = data.sums(places[0])
    for place in places[1:]:
        sums += data.sums(place)
    return sums


def _write(
    share: tuple[int, list[tuple[int, int, int]]],
    data: Data,
    learned: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    out: pathlib.Path,
) -> None:
    number, places = share
    rng = np.random.default_rng(number)
    with (
        (out / f"values-{number}.bin").open("wb") as values_file,
        (out / f"labels-{number}.bin").open("wb") as labels_file,
    ):
        for place in places:
            values, labels = data.read(*place)
            order = rng.permutation(len(labels))
            normalise(values[order], *learned).tofile(values_file)
            labels[order].tofile(labels_file)


def write(rows: Rows, out: pathlib.Path) -> None:
    """Writes one array of all rows, and one of all labels."""
    out.mkdir(parents=True)
    shape = (rows.count, *rows.shape)
    values = np.lib.format.open_memmap(out / "values.npy", mode="w+", dtype=rows.dtype, shape=shape)
    labels = np.lib.format.open_memmap(out / "labels.npy", mode="w+", dtype=np.int64, shape=(rows.count,))
    at = 0
    for some, classes in rows.blocks():
        values[at : at + len(classes)], labels[at : at + len(classes)] = some, classes
        at += len(classes)


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Block]:
    """The rows in random order; of a build, as it wrote them."""
    if not (out / "values.npy").exists():
        for path in sorted(out.glob("values-*.bin")):
            values = np.fromfile(path, rows.dtype).reshape(-1, *rows.shape)
            yield values, np.fromfile(path.with_name(path.name.replace("values", "labels")), np.int64)
        return
    values, labels = open_arrays(out)
    order = np.random.default_rng(0).permutation(rows.count)
    for at in range(0, rows.count, batch):
        some = order[at : at + batch]
        yield values[some], labels[some]


def open_arrays(out: pathlib.Path, mmap: bool = True) -> Block:
    """What `write` wrote, memory-mapped or in memory."""
    values, labels = out / "values.npy", out / "labels.npy"
    return (
        (np.load(values, mmap_mode="r"), np.load(labels, mmap_mode="r")) if mmap else (np.load(values), np.load(labels))
    )
