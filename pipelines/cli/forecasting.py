"""`npyflow build --dry_run`: what a build would read, write and take."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack

from rich.console import Console

from pipelines.cli import show
from pipelines.cli.progress import show_bytes, show_seconds
from pipelines.cli.show import make_table
from pipelines.errors import NpyflowError
from pipelines.forecast.calibrate import calibrate
from pipelines.forecast.estimate import Calibration, memory, read_bytes, seconds
from pipelines.maintain.reuse import Existing
from pipelines.plan.plan import Plan
from pipelines.runners import quiet
from pipelines.runners.beam import runs_here


def show_dry_run(
    options: argparse.Namespace, console: Console, plan: Plan, *, existing: Existing | None, begun: float
) -> None:
    """Shows what a build would read, write and take.

    The configuration alone goes to the standard output, so that it can be sent to a file.

    Args:
        options: Those of the command line.
        console: The standard output.
        plan: The plan.
        existing: The data set whose transform is used, if one is.
        begun: When the command began, by the monotonic clock.
    """
    aside = Console(stderr=True, soft_wrap=True, markup=False, emoji=False)
    show.show_forecast_of(aside, plan)
    planned = time.monotonic() - begun
    measured: Calibration | NpyflowError | None = None
    if plan.config.custom is None or existing is not None:
        quiet.keep_off_gpus()
        with ExitStack() as stack:
            if not options.debug:
                stack.enter_context(quiet.hidden_stderr())
            try:
                measured = calibrate(plan, existing)
            except NpyflowError as error:
                measured = error
    here = runs_here(options.beam_options)
    _show_times(aside, plan, measured, planned=planned, workers=options.workers, forked=here, learns=existing is None)
    console.print(show.dump_config(plan.config), end="", highlight=False, markup=False, soft_wrap=True)


def _show_times(
    console: Console,
    plan: Plan,
    measured: Calibration | Exception | None,
    *,
    planned: float,
    workers: int | None,
    forked: bool,
    learns: bool,
) -> None:
    """Shows what a build would read, and how long it would take.

    Args:
        console: Where to.
        plan: The plan.
        measured: What was measured, or why it could not be; None where nothing can.
        planned: The seconds that listing and planning took.
        workers: The number of workers that is asked for, if one is.
        forked: Whether they are processes of this machine.
        learns: Whether there is a pass 1.
    """
    read = read_bytes(plan, learns=learns)
    stages = " and ".join(f"{size / 1e6:,.1f} MB to {stage}" for stage, size in read.items())
    units, tasks = f"{len(plan.training_units):,} units of analysis, " if learns else "", f"{plan.task_count:,} tasks"
    console.print(f"It reads {stages}: {units}{tasks}", highlight=False)
    if not isinstance(measured, Calibration):
        why = "a preprocessing_fn has an analysis of its own" if measured is None else str(measured)
        console.print(f"\nTime and memory are not forecast: {why}", highlight=False)
        return
    size = memory(plan, measured)
    console.print(
        f"A worker needs {show_bytes(size)}, {show_bytes(measured.base_bytes)} of it for packages", highlight=False
    )
    rows = make_table("workers:", "begin:", "analyze:", "write:", "all:")
    for count in _counts_of_workers(plan, workers, forked=forked):
        cores = min(count, len(os.sched_getaffinity(0))) if forked else count
        found = seconds(plan, measured, workers=cores, forked=forked)
        parts = (planned + found.begin, found.analyze, found.write, planned + found.total)
        rows.add_row(f"{count:,}", *map(show_seconds, parts))
    console.print()
    console.print(rows)
    where = (
        "This machine has so many cores" if forked else "Each worker is taken to have a core like one of this machine"
    )
    console.print(
        f"\nMeasured in {show_seconds(measured.seconds)}: {measured.rows_analyzed:,} rows analyzed, "
        f"{measured.rows_written:,} written. {where}" + (f": {len(os.sched_getaffinity(0))}" if forked else ""),
        highlight=False,
    )


def _counts_of_workers(plan: Plan, asked: int | None, *, forked: bool) -> list[int]:
    """The numbers of workers whose times are shown: powers up to the cores, or to as many as there are tasks."""
    if forked:
        most = max(4, len(os.sched_getaffinity(0)))
        counts = {2**power for power in range(most.bit_length()) if 2**power <= most}
    else:
        counts = {4**power for power in range(8) if 4**power <= plan.task_count}
    return sorted(counts | ({asked} if asked else set()))
