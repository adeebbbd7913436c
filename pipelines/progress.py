"""Counts of what has been done, from wherever in this process the work runs.

What the forked workers of `local` do is counted here when an item is done. Work in other processes (a cluster's worker,
`multi_processing`) is not seen; `output.FinishedTasks` counts it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
        with self._lock:
            return dataclasses.replace(self._counts.get(stage, Count()))

    def counts(self) -> dict[str, Count]:
        """What each stage has done so far."""
        with self._lock:
            return {stage: dataclasses.replace(count) for stage, count in self._counts.items()}


_active: Counter | None = None


@contextmanager
def counting() -> Iterator[Counter]:
    """Makes a counter that `advance` adds to while the context is open."""
    global _active
    counter, before = Counter(), _active
    _active = counter
    try:
        yield counter
    finally:
        _active = before


def advance(stage: str, *, rows: int, size: int) -> None:
    """Counts work for whoever is watching in this process; does nothing where nobody is."""
    if _active is not None:
        _active.add(stage, rows=rows, size=size)
