"""Runs loaders against the clock: how fast batches come, and how long the loader of NumPy arrays is at each stage."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.numpy import Loader

READ, CHECKSUM, DECODE, ORDER, ARRANGE = "read", "checksum", "decode", "shuffle and gather", "arrange"

STARVES = 0.05
"""A training step starves where it waits for more than this share of the time."""

MEMORY_SECONDS = 0.02
PAGE = 4096
INBLOCK_BYTES = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """How a training step of so many seconds would be fed, as some steps were that were simulated.

    `waiting` is the share of the time that they waited for their batches, the first batch left out.
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
    """How fast batches came: the seconds to the first one, and the rows and seconds of all after it."""

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
    """Simulates a training for some seconds, at least one step, which sleeps; `batches` has numbers of rows, no end."""
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
    """The time of each stage, of which one is on at a time, and how many bytes of shards were touched."""

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

    def watch(self, owner: Any, method: str, stage: str, then: Callable[[Any], None] = lambda _: None) -> None:
        """Lets a method of an object be this stage, and what is done with its result."""
        call = getattr(owner, method)

        def watched(*given: Any) -> Any:
            with self.stage(stage):
                found = call(*given)
                then(found)
                return found

        setattr(owner, method, watched)

    def touch(self, content: npt.NDArray[np.uint8]) -> None:
        """Lets the system read the pages of a mapped file."""
        content[::PAGE].max(initial=0)
        self.touched += len(content)


def timed_loader(root: str, split: str, *, batch_size: int, seed: int, clock: Clock) -> Loader:
    """A loader without end that tells a clock what it does, and reads nothing ahead."""
    loader = Loader(root, split, batch_size=batch_size, seed=seed, epochs=None, prefetch=0)
    shards = loader._arrays._rows.shards
    clock.watch(loader._arrays, "_finish", ARRANGE)
    clock.watch(shards, "read_runs", DECODE)
    clock.watch(shards, "_check_pieces", CHECKSUM)
    clock.watch(shards, "_bytes", READ, clock.touch)
    return loader
