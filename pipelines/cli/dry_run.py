"""`npyflow build --dry_run`: what a build would read, write and take."""

from __future__ import annotations

import argparse
import time

from rich.console import Console

from pipelines.cli.terminal import quiet_work
from pipelines.errors import NpyflowError
from pipelines.forecast.calibrate import calibrate
from pipelines.forecast.estimate import Calibration, memory, read_bytes, seconds
from pipelines.forecast.money import DEFAULT, Prices, read_prices, usage
from pipelines.interface import tables
from pipelines.plan.plan import Plan
from pipelines.results import PlainConsole, Table, count_of, print_blocks, show_bytes, show_seconds
from pipelines.run import Build
from pipelines.runners.beam import option_value, runs_here
from pipelines.runners.pool import cores


def show_dry_run(options: argparse.Namespace, console: Console, planned: Build, *, begun: float) -> None:
    """Shows what a build would read, write and take, after a command that `begun` then, by the monotonic clock.

    The configuration alone goes to the standard output, so that it can be sent to a file.
    """
    prices = _prices(options)  # before anything takes long
    aside = PlainConsole(stderr=True, soft_wrap=True, markup=False, emoji=False)
    plan, existing = planned.plan, planned.transform
    print_blocks(aside, [*tables.of_sources(plan), *tables.of_steps(plan.config), *tables.of_forecast(plan)])
    seconds_to_plan = time.monotonic() - begun
    learns, forked = existing is None, runs_here(options.beam_options)
    read = " and ".join(f"{show_bytes(size)} to {stage}" for stage, size in read_bytes(plan, learns=learns).items())
    units = f"{count_of(len(plan.training_units), 'unit')} of analysis, " if learns else ""
    measured: Calibration | str = "the preprocessing_fn asks tf.transform's own analyzers, which no sample tells of"
    custom = plan.config.custom
    if custom is None or custom.traced is not None or existing is not None:
        with quiet_work(debug=options.debug):
            try:
                measured = calibrate(plan, existing)
            except NpyflowError as error:
                measured = str(error)
    print_blocks(aside, [f"It reads {read}: {units}{count_of(plan.task_count, 'task')}"])
    if isinstance(measured, str):
        print_blocks(aside, [f"\nTime and memory are not forecast: {measured}"])
    else:
        _show_times(aside, plan, measured, planned=seconds_to_plan, workers=options.workers, forked=forked)
        if prices is not None:
            _show_costs(aside, plan, measured, prices, workers=options.workers)
    console.print(tables.dump_config(plan.config), end="", highlight=False, markup=False, soft_wrap=True)


def _show_times(
    console: Console, plan: Plan, measured: Calibration, *, planned: float, workers: int | None, forked: bool
) -> None:
    """Shows how long a build would take after so many seconds of planning, and with the workers that are asked for.

    If they are `forked` they are processes of this machine.
    """
    rows = []
    for count in _counts_of_workers(plan, workers, forked=forked):
        found = seconds(plan, measured, workers=min(count, cores()) if forked else count, forked=forked)
        parts = (planned + found.begin, found.analyze, found.write, planned + found.total)
        rows.append((count, *map(show_seconds, parts)))
    where = (
        "This machine has so many cores" if forked else "Each worker is taken to have a core like one of this machine"
    )
    size, base = show_bytes(memory(plan, measured)), show_bytes(measured.base_bytes)
    print_blocks(
        console,
        [
            f"A worker needs {size}, {base} of it for packages\n",
            Table(columns=("workers:", "begin:", "analyze:", "write:", "all:"), rows=tuple(rows)),
            f"\nMeasured in {show_seconds(measured.seconds)}: {measured.rows_analyzed:,} rows analyzed, "
            f"{measured.rows_written:,} written. {where}" + (f": {cores()}" if forked else ""),
        ],
    )


def _prices(options: argparse.Namespace) -> Prices | None:
    """The prices by which costs are shown: those that are given, or on Dataflow the ones that are known."""
    if options.prices:
        return read_prices(options.prices)
    return DEFAULT if option_value(options.beam_options, "--runner") == "DataflowRunner" else None


def _show_costs(console: Console, plan: Plan, measured: Calibration, prices: Prices, *, workers: int | None) -> None:
    """Shows what Dataflow would charge, by the number of workers."""
    rows = []
    for count in _counts_of_workers(plan, workers, forked=False):
        found = usage(plan, measured, workers=count)
        amounts = (found.vcpu_hours, found.memory_gb_hours, found.shuffle_gb, found.cost(prices))
        rows.append((count, *(f"{amount:,.2f}" for amount in amounts)))
    columns = ("workers:", "vCPU-hours:", "GB-hours:", "shuffled GB:", f"{prices.currency}:")
    about = f"\nOn Dataflow, by list prices of {prices.region}, {prices.date}, without discounts\n"
    left_out = "\nNot counted: starting machines, disks, requests to storage, network; idle workers are."
    print_blocks(console, [about, Table(columns=columns, rows=tuple(rows)), left_out])


def _counts_of_workers(plan: Plan, asked: int | None, *, forked: bool) -> list[int]:
    """The numbers of workers whose times are shown: powers up to the cores, or to as many as there are tasks."""
    if forked:
        most = max(4, cores())
        counts = {2**power for power in range(most.bit_length()) if 2**power <= most}
    else:
        counts = {4**power for power in range(8) if 4**power <= plan.task_count}
    return sorted(counts | ({asked} if asked else set()))
