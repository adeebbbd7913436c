"""The loader of NumPy arrays as it is measured: its batches, its stages, and what changes would do."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from loaders.diagnostics import timing
from loaders.diagnostics.timing import CHECKSUM, DECODE, READ
from loaders.format.manifest import Manifest
from loaders.numpy import Loader
from loaders.reading.prefetch import AUTOTUNE

FASTER_DISK = "a faster disk, or memory that holds the shards"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of what a loader does: the time that it adds to a row, and its share of the time of all stages."""

    name: str
    seconds_per_row: float
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """A change that makes the loader so many times as fast, or the training where it is one of reading ahead."""

    change: str
    factor: float


class MeasuredLoader(abc.ABC):
    """A loader of a split, its stages, and changes that are its own.

    Attributes:
        stages_how: How the stages are measured.
    """

    stages_how: str

    def __init__(self, root: str, manifest: Manifest, split: str) -> None:
        self.root, self.manifest, self.split = root, manifest, split

    @abc.abstractmethod
    def batches(self, batch_size: int, *, seed: int, ahead: int = AUTOTUNE) -> Iterator[float]:
        """Runs the loader without end, with so many batches kept ready: the number of rows of each batch."""

    @abc.abstractmethod
    def stages(self, batch_size: int, seconds: float) -> tuple[Stage, ...]:
        """Where the time goes; each measurement takes some seconds."""

    def alternatives(self, batch_size: int) -> dict[str, Callable[[], Iterator[float]]]:
        """What may be run in place of this loader: what that is, and what runs it, as `batches` does."""
        return {}

    @abc.abstractmethod
    def derived_advice(self, stages: tuple[Stage, ...], rate: float) -> Iterator[Advice]:
        """Changes whose effect follows from the stages; `rate` is the loader's, in rows a second."""


class NumpyLoader(MeasuredLoader):
    """`loaders.numpy.Loader`."""

    stages_how = (
        "the stages of one thread were timed as it made batches, without reading ahead; to read is to map the shards "
        "and to touch each page, which is fast where the system holds it in memory"
    )

    def __init__(self, root: str, manifest: Manifest, split: str) -> None:
        super().__init__(root, manifest, split)
        self._from_disk = 0.0

    def batches(self, batch_size: int, *, seed: int, ahead: int = AUTOTUNE) -> Iterator[float]:
        return row_counts(Loader(self.root, self.split, batch_size=batch_size, seed=seed, epochs=None, prefetch=ahead))

    def stages(self, batch_size: int, seconds: float) -> tuple[Stage, ...]:
        clock = timing.Clock()
        loader = timing.timed_loader(self.root, self.split, batch_size=batch_size, seed=2, clock=clock)
        rows = 0.0

        def counted() -> Iterator[float]:
            nonlocal rows
            clock.restart()
            for count in row_counts(loader):
                rows += count
                yield count

        before = timing.disk_bytes()
        timing.pace(counted, seconds)
        clock.switch(READ)
        self._from_disk = min(1.0, (timing.disk_bytes() - before) / clock.touched)
        spent = clock.seconds
        if self.manifest.record_bytes is None:  # such records are parsed one by one, each when its checksum is right
            spent = {f"{CHECKSUM} and {DECODE}" if name == DECODE else name: spent[name] for name in spent}
            del spent[CHECKSUM]
        total = sum(spent.values())
        return tuple(Stage(name=name, seconds_per_row=spent[name] / rows, share=spent[name] / total) for name in spent)

    def derived_advice(self, stages: tuple[Stage, ...], rate: float) -> Iterator[Advice]:
        (read,) = (stage for stage in stages if stage.name == READ)
        yield Advice(change=FASTER_DISK, factor=1 / (1 - read.share * self._from_disk))


def row_counts(batches: Iterable[Any]) -> Iterator[float]:
    """The number of rows of each batch, a dict of arrays or tensors; the iteration begins at once."""
    return (int(next(iter(batch.values())).shape[0]) for batch in batches)
