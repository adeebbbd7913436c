"""Runs loaders against the clock: how fast batches come, and how long the loader of NumPy arrays is at each stage."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.decode import Columns
from loaders.format.manifest import Manifest
from loaders.numpy import ArrayBatches, Loader
from loaders.order import split_slices
from loaders.order.epoch import Runs
from loaders.storage.shards import Shards

U8 = npt.NDArray[np.uint8]

READ, CHECKSUM, DECODE, ORDER, ARRANGE = "read", "checksum", "decode", "shuffle and gather", "arrange"

STARVES = 0.05
"""A training step starves where it waits for more than this share of the time."""

MEMORY_SECONDS = 0.02
PAGE = 4096
INBLOCK_BYTES = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """How a training step of some length would be fed.

    Attributes:
        seconds: The length of a step.
        steps: How many were simulated.
        waiting: The share of the time that the steps waited for their batches, the first batch left out.
    """

    seconds: float
    steps: int
    waiting: float

    @property
    def starves(self) -> bool:
        """Whether it waits for more than `STARVES` of the time."""
        return self.waiting > STARVES


class Memory:
    """The most memory that this process had of its own, looked at now and then."""

    def __init__(self) -> None:
        self._next = 0.0
        self.base = self.peak = own_memory()

    def look(self, now: float) -> None:
        """Looks if it is time to; `now` is that of the clock."""
        if now >= self._next:
            self._next, self.peak = now + MEMORY_SECONDS, max(self.peak, own_memory())


def own_memory() -> int:
    """The bytes of memory that this process has; without those of mapped files on Linux, the most so far elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            (line,) = (line for line in status if line.startswith("RssAnon:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def disk_bytes() -> int:
    """How many bytes this process has read from disks so far: those of mapped files too, but not what was in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * INBLOCK_BYTES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast batches came.

    Attributes:
        first: The seconds to the first one.
        rows: The rows of all after it.
        seconds: The time of these.
    """

    first: float
    rows: float
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


def pace(make: Callable[[], Iterator[float]], seconds: float, memory: Memory | None = None) -> Pace:
    """Runs an endless iterator of numbers of rows, which `make` makes, for some time and for one batch at least."""
    begun = time.perf_counter()
    batches = make()
    next(batches)
    start = now = time.perf_counter()
    rows = 0.0
    while not rows or now - start < seconds:
        rows += next(batches)
        now = time.perf_counter()
        if memory:
            memory.look(now)
    return Pace(first=start - begun, rows=rows, seconds=now - start)


def feed(batches: Iterator[float], step: float, seconds: float, memory: Memory | None = None) -> Step:
    """Simulates a training.

    Args:
        batches: An endless iterator of numbers of rows.
        step: The length of a step, which sleeps, in seconds.
        seconds: How long to go on, for one step at least.
        memory: Looks meanwhile.
    """
    next(batches)
    waited, steps = 0.0, 0
    start = now = time.perf_counter()
    while not steps or now - start < seconds:
        time.sleep(step)
        asked = time.perf_counter()
        next(batches)
        now = time.perf_counter()
        waited += now - asked
        steps += 1
        if memory:
            memory.look(now)
    return Step(seconds=step, steps=steps, waiting=waited / (now - start))


class Clock:
    """The time of each stage, of which one is on at a time.

    Attributes:
        seconds: The time of each.
        touched: How many bytes of shards were read.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begins again, with what is between the other stages."""
        self.seconds = dict.fromkeys((READ, CHECKSUM, DECODE, ORDER, ARRANGE), 0.0)
        self.touched = 0
        self._stage, self._since = ORDER, time.perf_counter()

    def switch(self, stage: str) -> str:
        """Ends the stage that was on, which is returned, and begins another one."""
        now, ended = time.perf_counter(), self._stage
        self.seconds[ended] += now - self._since
        self._stage, self._since = stage, now
        return ended

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside is this stage, but for the stages inside it."""
        outer = self.switch(name)
        try:
            yield
        finally:
            self.switch(outer)


class TimedLoader(Loader):
    """A loader without end that tells a clock what it does, and reads nothing ahead."""

    def __init__(self, root: str, manifest: Manifest, split: str, *, batch_size: int, seed: int, clock: Clock) -> None:
        super().__init__(root, split, batch_size=batch_size, seed=seed, epochs=None, prefetch=0)
        view = split_slices.resolve(manifest, split)
        self._arrays = TimedBatches(root, view, self._cursor, self._options, cache=None, skipped=None)
        self._arrays.clock(clock, TimedShards(root, manifest, split, clock=clock))


class TimedBatches(ArrayBatches):
    """Batches that tell a clock how long it takes to arrange them."""

    def clock(self, clock: Clock, shards: TimedShards) -> None:
        """Tells a clock, also what shards do."""
        self._clock, self._shards = clock, shards

    def _finish(self, raw: Any) -> Any:
        with self._clock.stage(ARRANGE):
            return super()._finish(raw)


class TimedShards(Shards):
    """Shards that tell a clock what they do."""

    def __init__(self, root: str, manifest: Manifest, split: str, *, clock: Clock) -> None:
        super().__init__(root, manifest, split, names=[feature.name for feature in manifest.features])
        self._clock = clock

    def read_runs(
        self, runs: Runs, target: Columns, at: npt.NDArray[np.int64], order: npt.NDArray[np.int64] | None = None
    ) -> None:
        """As in `Shards`."""
        with self._clock.stage(DECODE):
            super().read_runs(runs, target, at, order)

    def _bytes(self, shard: int, begin: int, end: int) -> U8:
        with self._clock.stage(READ):
            content = super()._bytes(shard, begin, end)
            self._touch(content)
        return content

    def _check_pieces(self, pieces: Sequence[Any]) -> None:
        with self._clock.stage(CHECKSUM):
            super()._check_pieces(pieces)

    def _touch(self, content: U8) -> None:
        """Lets the system read the pages of a mapped file."""
        content[::PAGE].max(initial=0)
        self._clock.touched += len(content)
