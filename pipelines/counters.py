"""Counts of what has been done: for whoever watches this process, and for Beam's metrics.

What the workers of `runners.pool` do is counted here when an item is done. Work in other processes (a cluster's
worker) comes with Beam's metrics; its rows are counted by `output.FinishedTasks`. The names
`requests`, `bytes_read` and `retries` are all of files that are not local.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipelines.lazy import beam

NAMESPACE = "npyflow"

REQUESTS, BYTES_READ, RETRIES = "requests", "bytes_read", "retries"

STUCK = "stuck"
"""Worker processes that were given up, as they did nothing."""

_thread = threading.local()


@dataclasses.dataclass
class Count:
    """What one stage has done so far."""

    rows: int = 0
    size: int = 0


class Counter:
    """Adds up rows and bytes by stage; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Count] = {}

    def add(self, stage: str, *, rows: int, size: int) -> None:
        """Counts rows and bytes of a stage."""
        with self._lock:
            count = self._counts.setdefault(stage, Count())
            count.rows += rows
            count.size += size

    def read(self, stage: str) -> Count:
        """What a stage has done so far."""
        return self.counts().get(stage, Count())

    def counts(self) -> dict[str, Count]:
        """What each stage has done so far."""
        with self._lock:
            return {stage: dataclasses.replace(count) for stage, count in self._counts.items()}


_active: tuple[Counter, ...] = ()


@contextmanager
def counting() -> Iterator[Counter]:
    """Makes a counter that `advance` adds to while the context is open, as to those of contexts around it."""
    global _active
    counter, before = Counter(), _active
    _active = (*before, counter)
    try:
        yield counter
    finally:
        _active = before


def advance(stage: str, *, rows: int, size: int) -> None:
    """Counts work for whoever is watching in this process; does nothing where nobody is."""
    for counter in _active:
        counter.add(stage, rows=rows, size=size)


def count(name: str, value: int = 1) -> None:
    """Counts something, or several.

    Inside a step of a Beam pipeline the counter `npyflow/name` is increased, which `take` reads when the pipeline has
    run; elsewhere what `counting` counts: `counter.read(name).rows`.
    """
    gathered: dict[str, int] | None = getattr(_thread, "gathered", None)
    if gathered is not None:
        gathered[name] = gathered.get(name, 0) + value
    elif _in_step():
        beam.metrics.Metrics.counter(NAMESPACE, name).inc(value)
    else:
        advance(name, rows=value, size=0)


def _in_step() -> bool:
    """Whether this thread runs a step of a Beam pipeline, so that its counters go with the pipeline's result."""
    if "apache_beam" not in sys.modules:  # where it was never imported no step runs
        return False
    return beam.metrics.execution.MetricsEnvironment.current_container() is not None


def take(result: Any) -> None:
    """Adds what the steps of a pipeline have counted to what this process has counted itself.

    Some runners give results without counters.
    """
    try:
        found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))["counters"]
    except (AttributeError, NotImplementedError, ValueError):
        return
    for counter in found:
        advance(counter.key.metric.name, rows=counter.result or 0, size=0)


def count_read(stage: str, *, rows: int, size: int) -> None:
    """Counts rows that a stage has read, and their bytes, as `<stage>_rows` and `<stage>_bytes`."""
    count(f"{stage}_rows", rows)
    count(f"{stage}_bytes", size)


@contextmanager
def gathering() -> Iterator[Mapping[str, int]]:
    """Keeps what this thread counts while the context is open, for another thread to count.

    Beam knows which step a thread works for only in the threads that it has started itself.
    """
    before, found = getattr(_thread, "gathered", None), dict[str, int]()
    _thread.gathered = found
    try:
        yield found
    finally:
        _thread.gathered = before
