"""What a build shows while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pipelines import progress

REFRESH_SECONDS = 0.2
PLAIN_SECONDS = 5.0

Poll = Callable[[], dict[str, progress.Count]]


def show_bytes(size: float) -> str:
    """A number of bytes for people, in units of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} PiB"


@contextmanager
def shown(console: Console, totals: dict[str, int], poll: Poll = dict) -> Iterator[None]:
    """Shows the progress of the work inside the context.

    Args:
        console: Where to show it.
        totals: How many rows each stage has, in the order of the stages.
        poll: What stages have done in other processes, where `progress` does not see them.
    """
    with progress.counting() as counter:
        view = _Bars(console, totals) if console.is_terminal else _Lines(console, totals)
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(view, counter, tuple(totals), stop, poll), daemon=True)
        with view:
            watcher.start()
            try:
                yield
            finally:
                stop.set()
                watcher.join()


def _watch(
    view: _Bars | _Lines, counter: progress.Counter, stages: tuple[str, ...], stop: threading.Event, poll: Poll
) -> None:
    stopping = False
    while not stopping:
        stopping = stop.wait(REFRESH_SECONDS)
        elsewhere = poll()
        for stage in stages:
            here, there = counter.read(stage), elsewhere.get(stage, progress.Count())
            view.update(stage, here if here.rows >= there.rows else there)


class _Stages:
    """How fast each stage has been, from when it began to when it last moved."""

    def __init__(self, totals: dict[str, int]) -> None:
        self.totals = totals
        self._seen: dict[str, tuple[float, float, int]] = {}

    def speed(self, stage: str, count: progress.Count) -> float:
        """Bytes a second."""
        now = time.monotonic()
        begun, moved, rows = self._seen.get(stage, (now - REFRESH_SECONDS, now, 0))
        if count.rows != rows:
            moved = now
        self._seen[stage] = (begun, moved, count.rows)
        return count.size / (moved - begun)


class _Bars(_Stages):
    def __init__(self, console: Console, totals: dict[str, int]) -> None:
        super().__init__(totals)
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TextColumn("{task.completed:>12,.0f} of {task.total:,.0f} rows  {task.fields[speed]:>12}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.__enter__()
        for stage, total in self.totals.items():
            self._bars[stage] = self._progress.add_task(stage, total=total, start=False, speed="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__(None, None, None)

    def update(self, stage: str, count: progress.Count) -> None:
        """Moves a stage's bar."""
        if count.rows:
            bar = self._bars[stage]
            self._progress.start_task(bar)
            self._progress.update(bar, completed=count.rows, speed=f"{show_bytes(self.speed(stage, count))}/s")


class _Lines(_Stages):
    def __init__(self, console: Console, totals: dict[str, int]) -> None:
        super().__init__(totals)
        self._console = console
        self._shown: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, stage: str, count: progress.Count) -> None:
        """Prints a line for a stage that has moved, every few seconds and at its end."""
        when, rows = self._shown.get(stage, (float("-inf"), 0))
        total, now = self.totals[stage], time.monotonic()
        if count.rows == rows or (now - when < PLAIN_SECONDS and count.rows < total):
            return
        self._shown[stage] = (now, count.rows)
        speed = show_bytes(self.speed(stage, count))
        self._console.print(f"{stage}: {count.rows:,} of {total:,} rows, {speed}/s", highlight=False)
