"""What a build shows while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pipelines import counters

REFRESH_SECONDS = 0.2
PLAIN_SECONDS = 5.0

POLL_SHARE = 20
"""How many times as long as a look at the finished tasks the pause before the next one is: 100,000 take a second."""

STAGES = ("split", "analyze", "profile", "write")

Poll = Callable[[], dict[str, counters.Count]]


def show_bytes(size: float) -> str:
    """A number of bytes for people, in units of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} PiB"


def show_seconds(seconds: float) -> str:
    """A time for people."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 48 * 60 else f"{minutes / 1440:,.1f} days"


def show_counts(counts: Mapping[str, counters.Count], *, rows: int) -> list[str]:
    """What a build has counted, for people.

    Args:
        counts: From `progress.Counter.counts`, when the build is done.
        rows: The rows that the manifest has.

    Returns:
        A line on what was read, one on what was written, and one where the runner gives other numbers than the
        manifest: a cluster may do work twice and count it twice.
    """
    found = {name: count.rows for name, count in counts.items()}
    get = found.get
    passes = [f"{found[f'{stage}_bytes'] / 1e6:,.1f} MB to {stage}" for stage in STAGES if get(f"{stage}_bytes")]
    said = []
    if passes:
        fetched = (
            f"{get('requests', 0):,} requests for {get('bytes_read', 0) / 1e6:,.1f} MB, " if get("requests") else ""
        )
        said.append(
            f"read {' and '.join(passes)}; {fetched}{get('retries', 0):,} retries, {_missing(get('missing', 0))}"
        )
    if "shards" in found or "found_shards" in found:
        line = f"wrote {get('rows', 0):,} rows, {get('shard_bytes', 0) / 1e6:,.1f} MB, in {get('shards', 0):,} shards"
        if get("found_shards"):
            line += f"; {found['found_rows']:,} rows in {found['found_shards']:,} shards were there already"
        said.append(line)
    counted = get("rows", 0) + get("found_rows", 0)
    if counted != rows:
        known = f"counts {counted:,} rows" if counted else "gives no counts"
        said.append(f"the runner {known}; the manifest has {rows:,}")
    return said


def _missing(count: int) -> str:
    return f"{count:,} missing value{'s' if count != 1 else ''} in the training rows"


@contextmanager
def shown(console: Console, totals: dict[str, int], poll: Poll = dict) -> Iterator[counters.Counter]:
    """Shows the progress of the work inside the context, which is what counts it.

    Args:
        console: Where to show it.
        totals: How many rows each stage has, in the order of the stages.
        poll: What stages have done in other processes, where `progress` does not see them.
    """
    with counters.counting() as counter:
        view = _Bars(console, totals) if console.is_terminal else _Lines(console, totals)
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(view, counter, tuple(totals), stop, poll), daemon=True)
        with view:
            watcher.start()
            try:
                yield counter
            finally:
                stop.set()
                watcher.join()


def _watch(
    view: _Bars | _Lines, counter: counters.Counter, stages: tuple[str, ...], stop: threading.Event, poll: Poll
) -> None:
    stopping, pause = False, REFRESH_SECONDS
    while not stopping:
        stopping = stop.wait(pause)
        begun = time.monotonic()
        elsewhere = poll()
        pause = max(REFRESH_SECONDS, POLL_SHARE * (time.monotonic() - begun))
        for stage in stages:
            here, there = counter.read(stage), elsewhere.get(stage, counters.Count())
            view.update(stage, here if here.rows >= there.rows else there)


class _Stages:
    """How fast each stage has been, from when it began to when it last moved."""

    def __init__(self, totals: dict[str, int]) -> None:
        self.totals = totals
        self._seen: dict[str, tuple[float, float, int]] = {}

    def speed(self, stage: str, count: counters.Count) -> float:
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

    def update(self, stage: str, count: counters.Count) -> None:
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

    def update(self, stage: str, count: counters.Count) -> None:
        """Prints a line for a stage that has moved, every few seconds and at its end."""
        when, rows = self._shown.get(stage, (float("-inf"), 0))
        total, now = self.totals[stage], time.monotonic()
        if count.rows == rows or (now - when < PLAIN_SECONDS and count.rows < total):
            return
        self._shown[stage] = (now, count.rows)
        speed = show_bytes(self.speed(stage, count))
        self._console.print(f"{stage}: {count.rows:,} of {total:,} rows, {speed}/s", highlight=False)
