"""What is shown while work goes on: a bar on a terminal, plain lines elsewhere, or what the caller makes of it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pipelines import counters
from pipelines.analyze.rounds import count_rounds
from pipelines.output.directory import Output
from pipelines.output.tasks import FinishedTasks
from pipelines.plan.plan import Plan
from pipelines.results import show_bytes
from pipelines.runners.pool import TIMEOUT_VARIABLE
from pipelines.storage import files

REFRESH_SECONDS = 0.2
PLAIN_SECONDS = 5.0

POLL_SHARE = 20
"""How many times as long as a look at the finished tasks the pause before the next one is: 100,000 take a second."""

STUCK = f"a worker process did nothing for long and was ended; others do its work ({TIMEOUT_VARIABLE}: how long)"

SET_BY_IMPORTS = ("TF_USE_LEGACY_KERAS",)

Poll = Callable[[], dict[str, counters.Count]]

Shown = bool | Callable[[str, int, int], object] | Console | None
"""Where progress is shown: None or False nowhere, True on the standard output, or there. A function is called with a
stage, the rows that it has read or written so far, and how many there are; from a thread of its own, several times a
second at most. Where it raises an error it is called no more, and the error is raised when the work is done."""


@contextmanager
def following(
    progress: Shown, plan: Plan, *, output: str | None = None, analyzes: bool = False, profiles: bool = False
) -> Iterator[counters.Counter]:
    """Shows the progress of a plan's stages inside the context, and gives what counts it.

    Args:
        progress: Where.
        plan: The plan.
        output: The directory that shards are written to, or None where none are.
        analyzes: Whether there is a pass 1.
        profiles: Whether there is a pass that profiles the rows.
    """
    rows, totals = plan.table.rows, dict[str, int]()
    if analyzes:
        phases = 0 if plan.config.custom is None else plan.config.custom.phases
        totals["analyze"] = plan.training_units.rows * (count_rounds(plan) + phases)
    if profiles:
        totals["profile"] = rows
    if output is not None:
        totals["write"] = rows
    # Listing a remote directory several times a second would be a burden.
    finished = FinishedTasks(Output(output)) if output is not None and files.is_local(output) else None

    def poll() -> dict[str, counters.Count]:
        done = finished.rows() if finished else 0
        return {"write": counters.Count(rows=done, size=done * plan.table.row_bytes)}

    with _libraries_unheard(), shown(progress, totals, poll) as counter:
        yield counter


@contextmanager
def _libraries_unheard() -> Iterator[None]:
    """Takes back what packages imported inside the context say in the environment; hides TensorFlow's information."""
    before, logger = {name: os.environ.get(name) for name in SET_BY_IMPORTS}, logging.getLogger("tensorflow")
    logger.addFilter(_is_warning)
    try:
        yield
    finally:
        logger.removeFilter(_is_warning)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


@contextmanager
def shown(progress: Shown, totals: dict[str, int], poll: Poll = dict) -> Iterator[counters.Counter]:
    """Shows the progress of the work inside the context, and gives what counts it.

    Args:
        progress: Where to show it.
        totals: How many rows each stage has, in the order of the stages.
        poll: What stages have done in other processes, where the counter does not see them.
    """
    with counters.counting() as counter:
        if progress is None or progress is False:
            yield counter
            return
        stop = threading.Event()
        view = _view(progress, totals)
        watcher = threading.Thread(target=_watch, args=(view, counter, tuple(totals), stop, poll), daemon=True)
        with view:
            watcher.start()
            try:
                yield counter
            finally:
                stop.set()
                watcher.join()


def _view(progress: Console | Callable[[str, int, int], object] | bool, totals: dict[str, int]) -> _Stages:
    if callable(progress):
        return _Calls(progress, totals)
    if isinstance(progress, Console):
        console = progress
    else:  # rich takes the kernel of a notebook for a terminal
        terminal = getattr(sys.stdout, "isatty", bool)()
        console = Console(force_jupyter=False, force_terminal=terminal, soft_wrap=True, markup=False)
    return _Bars(console, totals) if console.is_terminal else _Lines(console, totals)


def _watch(
    view: _Stages, counter: counters.Counter, stages: tuple[str, ...], stop: threading.Event, poll: Poll
) -> None:
    stopping, pause, lost = False, REFRESH_SECONDS, 0
    while not stopping:
        stopping = stop.wait(pause)
        begun = time.monotonic()
        elsewhere = poll()
        pause = max(REFRESH_SECONDS, POLL_SHARE * (time.monotonic() - begun))
        for stage in stages:
            here, there = counter.read(stage), elsewhere.get(stage, counters.Count())
            view.update(stage, here if here.rows >= there.rows else there)
        before, lost = lost, counter.read(counters.STUCK).rows
        if lost > before:
            view.say(STUCK)


class _Stages(AbstractContextManager[Any]):
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

    def __exit__(self, *_: Any) -> None:
        """Nothing is to be done at the end, unless a view says so."""

    def update(self, stage: str, count: counters.Count) -> None:
        """Shows how far a stage is."""
        raise NotImplementedError

    def say(self, message: str) -> None:
        """Shows a line about the work."""
        warnings.warn(message, stacklevel=1)


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

    def __enter__(self) -> Self:
        self._progress.__enter__()
        for stage, total in self.totals.items():
            self._bars[stage] = self._progress.add_task(stage, total=total, start=False, speed="")
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.__exit__(None, None, None)

    def update(self, stage: str, count: counters.Count) -> None:
        """Moves a stage's bar."""
        if count.rows:
            bar = self._bars[stage]
            self._progress.start_task(bar)
            self._progress.update(bar, completed=count.rows, speed=f"{show_bytes(self.speed(stage, count))}/s")

    def say(self, message: str) -> None:
        """Prints a line above the bars."""
        self._progress.console.print(message, highlight=False)


class _Lines(_Stages):
    def __init__(self, console: Console, totals: dict[str, int]) -> None:
        super().__init__(totals)
        self._console = console
        self._shown: dict[str, tuple[float, int]] = {}

    def update(self, stage: str, count: counters.Count) -> None:
        """Prints a line for a stage that has moved, every few seconds and at its end."""
        when, rows = self._shown.get(stage, (float("-inf"), 0))
        total, now = self.totals[stage], time.monotonic()
        if count.rows == rows or (now - when < PLAIN_SECONDS and count.rows < total):
            return
        self._shown[stage] = (now, count.rows)
        speed = show_bytes(self.speed(stage, count))
        self._console.print(f"{stage}: {count.rows:,} of {total:,} rows, {speed}/s", highlight=False)

    def say(self, message: str) -> None:
        """Prints a line."""
        self._console.print(message, highlight=False)


class _Calls(_Stages):
    def __init__(self, call: Callable[[str, int, int], object], totals: dict[str, int]) -> None:
        super().__init__(totals)
        self._call = call
        self._told: dict[str, int] = {}
        self._error: Exception | None = None

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._error is not None and kind is None:
            raise self._error

    def update(self, stage: str, count: counters.Count) -> None:
        """Calls the function for a stage that has moved."""
        if self._error is None and count.rows != self._told.get(stage, 0):
            self._told[stage] = count.rows
            try:
                self._call(stage, count.rows, self.totals[stage])
            except Exception as error:
                self._error = error
