"""What is shown while work goes on: a bar on a terminal, plain lines elsewhere, or what the caller makes of it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pipelines import counters
from pipelines.analyze.rounds import count_rounds
from pipelines.output.directory import Output, read_manifest
from pipelines.output.tasks import FinishedTasks
from pipelines.plan.plan import Plan
from pipelines.results import PlainConsole, show_bytes, show_seconds
from pipelines.runners.pool import TIMEOUT_VARIABLE
from pipelines.storage import files

REFRESH_SECONDS = 0.2
PLAIN_SECONDS = 5.0

MEASURED_SECONDS = 2.0
"""How long a stage has run before its speed, or the time that is left, means anything."""

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

    They are pass 1, if the work `analyzes`, one that `profiles` the rows, and the writing of shards to an `output`.
    """
    rows, totals, passes = plan.table.rows, dict[str, int](), dict[str, int]()
    if analyzes:
        custom = plan.config.custom
        phases = () if custom is None or custom.traced is not None else custom.phases
        passes["analyze"] = count_rounds(plan) + len(phases)
        totals["analyze"] = plan.training_units.rows * passes["analyze"]
    if profiles:
        totals["profile"] = rows
    if output is not None:
        totals["write"] = rows
    # Listing a remote directory several times a second would be a burden.
    finished = FinishedTasks(Output(output)) if output is not None and files.is_local(output) else None

    def poll() -> dict[str, counters.Count]:
        done = finished.rows() if finished else 0
        return {"write": counters.Count(rows=done, size=done * plan.table.row_bytes)}

    with _libraries_unheard(), shown(progress, totals, poll, passes=passes) as counter:
        yield counter


@contextmanager
def following_rows(console: Console, stage: str, *roots: str) -> Iterator[None]:
    """Shows how many rows of data sets a stage has read, where it takes a while."""
    manifests = map(read_manifest, roots)
    rows = sum(manifest.rows(split) for manifest in manifests for split in manifest.splits)
    with shown(console, {stage: rows}, fleeting=True):
        yield


@contextmanager
def _libraries_unheard() -> Iterator[None]:
    """Takes back what packages imported inside the context say in the environment; hides TensorFlow's information."""
    before, logger = {name: os.environ.get(name) for name in SET_BY_IMPORTS}, logging.getLogger("tensorflow")

    def is_warning(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    logger.addFilter(is_warning)
    try:
        yield
    finally:
        logger.removeFilter(is_warning)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def shown(
    progress: Shown,
    totals: dict[str, int],
    poll: Poll = dict,
    *,
    passes: Mapping[str, int] = MappingProxyType({}),
    fleeting: bool = False,
) -> Iterator[counters.Counter]:
    """Shows the progress of the work inside the context, and gives what counts it.

    Each stage of `totals`, in their order, reads or writes so many rows, in several `passes` where that is not once;
    `poll` says what is done in other processes, where the counter does not see it. Where it is `fleeting`, bars
    disappear with the work, and nothing is printed of work that soon ends.
    """
    with counters.counting() as counter:
        if progress is None or progress is False:
            yield counter
            return
        stop = threading.Event()
        view = _view(progress, totals, passes, fleeting)
        watcher = threading.Thread(target=view.watch, args=(counter, stop, poll), daemon=True)
        with view:
            watcher.start()
            try:
                yield counter
            finally:
                stop.set()
                watcher.join()


def _view(
    progress: Console | Callable[[str, int, int], object] | bool,
    totals: dict[str, int],
    passes: Mapping[str, int],
    fleeting: bool,
) -> _Stages:
    if callable(progress):
        return _Calls(progress, totals)
    if isinstance(progress, Console):
        console = progress
    else:  # rich takes the kernel of a notebook for a terminal
        terminal = getattr(sys.stdout, "isatty", bool)()
        console = PlainConsole(force_jupyter=False, force_terminal=terminal, soft_wrap=True, markup=False)
    kind = _Bars if console.is_terminal else _Lines
    return kind(console, totals, passes, fleeting)


class _Stages(AbstractContextManager[Any]):
    """What is known of each stage: how far it is, how fast, and how long all of them may yet take."""

    def __init__(
        self, totals: dict[str, int], passes: Mapping[str, int] = MappingProxyType({}), console: Console | None = None
    ) -> None:
        self.totals = totals
        self._console = console
        self._passes = passes
        self._begun: dict[str, tuple[float, int]] = {}  # when a stage was first seen to move, and its bytes by then
        self._first: tuple[float, int] | None = None  # when any was, and the rows of all by then
        self._done: dict[str, int] = {}
        self.seen: dict[str, int] = {}  # the rows of each stage that were shown

    def watch(self, counter: counters.Counter, stop: threading.Event, poll: Poll) -> None:
        """Shows what is counted, and what is done elsewhere, until it is told to stop."""
        stopping, pause, lost = False, REFRESH_SECONDS, 0
        while not stopping:
            stopping = stop.wait(pause)
            begun = time.monotonic()
            elsewhere = poll()
            pause = max(REFRESH_SECONDS, POLL_SHARE * (time.monotonic() - begun))
            for stage in self.totals:
                here, there = counter.read(stage), elsewhere.get(stage, counters.Count())
                count = here if here.rows >= there.rows else there
                if count.rows != self.seen.get(stage, 0):
                    self.update(stage, count)
            before, lost = lost, counter.read(counters.STUCK).rows
            if lost > before:
                self.say(STUCK)

    def describe(self, stage: str, count: counters.Count) -> str:
        """A stage's rows, and where they have been measured its speed and the time that is left in all."""
        now, stages = time.monotonic(), list(self.totals)
        # Those before it are done, if not by this run.
        self._done |= {earlier: self.totals[earlier] for earlier in stages[: stages.index(stage)]}
        self._done[stage] = count.rows
        done = sum(self._done.values())
        begun, size = self._begun.setdefault(stage, (now, count.size))
        since, before = self._first = self._first or (now, done)
        said = self._rows(stage, count.rows, self.totals[stage])
        if now - begun >= MEASURED_SECONDS and count.size > size:
            said += f", {show_bytes((count.size - size) / (now - begun))}/s"
        left = sum(self.totals.values()) - done
        if now - since >= MEASURED_SECONDS and done > before and left > 0:
            said += f", about {show_seconds((now - since) * left / (done - before))} left in all"
        return said

    def _rows(self, stage: str, rows: int, total: int) -> str:
        """How many rows of a stage are done, by its pass where it reads them several times."""
        passes = self._passes.get(stage, 1)
        if passes <= 1:
            return f"{rows:,} of {total:,} rows"
        of_one = total // passes
        number = min(rows // of_one, passes - 1) if of_one else 0
        return f"pass {number + 1} of {passes}, {rows - number * of_one:,} of {of_one:,} rows"

    def __exit__(self, *_: Any) -> None:
        """Nothing is to be done at the end, unless a view says so."""

    def update(self, stage: str, count: counters.Count) -> None:
        """Shows how far a stage that has moved is."""
        raise NotImplementedError

    def say(self, message: str) -> None:
        """Shows a line about the work: above the bars, where there are some."""
        if self._console is None:
            warnings.warn(message, stacklevel=1)
        else:
            self._console.print(message, highlight=False)


class _Bars(_Stages):
    def __init__(self, console: Console, totals: dict[str, int], passes: Mapping[str, int], fleeting: bool) -> None:
        super().__init__(totals, passes, console)
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=fleeting,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.__exit__(None, None, None)

    def update(self, stage: str, count: counters.Count) -> None:
        """Moves a stage's bar; there is none before the stage has begun."""
        self.seen[stage] = count.rows
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=self.totals[stage], said="")
        self._progress.update(self._bars[stage], completed=count.rows, said=self.describe(stage, count))


class _Lines(_Stages):
    def __init__(self, console: Console, totals: dict[str, int], passes: Mapping[str, int], fleeting: bool) -> None:
        super().__init__(totals, passes, console)
        self._shown: dict[str, float] = {}
        self._silent_until = time.monotonic() + PLAIN_SECONDS if fleeting else 0.0

    def update(self, stage: str, count: counters.Count) -> None:
        """Prints a line, every few seconds and at a stage's end."""
        when, now, said = self._shown.get(stage, float("-inf")), time.monotonic(), self.describe(stage, count)
        if (now - when < PLAIN_SECONDS and count.rows < self.totals[stage]) or now < self._silent_until:
            return
        self._shown[stage], self.seen[stage] = now, count.rows
        self.say(f"{stage}: {said}")


class _Calls(_Stages):
    def __init__(self, call: Callable[[str, int, int], object], totals: dict[str, int]) -> None:
        super().__init__(totals)
        self._call = call
        self._error: Exception | None = None

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._error is not None and kind is None:
            raise self._error

    def update(self, stage: str, count: counters.Count) -> None:
        """Calls the function."""
        if self._error is None:
            self.seen[stage] = count.rows
            try:
                self._call(stage, count.rows, self.totals[stage])
            except Exception as error:
                self._error = error
