"""`npyflow bench`."""

from __future__ import annotations

import argparse

from rich.console import Console

from loaders.diagnostics import bench
from loaders.format.manifest import ManifestError
from pipelines.cli.common import write_report
from pipelines.cli.terminal import quiet_work
from pipelines.errors import ConfigError
from pipelines.results import Block, Table, print_blocks, show_bytes


def run(options: argparse.Namespace, console: Console) -> int:
    """Measures a loader."""
    with console.status("measuring …"), quiet_work(debug=options.debug):
        try:
            found = bench.measure(
                options.path,
                options.split,
                batch_size=options.batch_size,
                loader=options.loader,
                step_ms=options.step_ms,
                seconds=options.seconds,
            )
        except ManifestError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from error
    print_blocks(console, describe(found))
    write_report(options.json, found.to_json())
    return 0


def describe(found: bench.Bench) -> list[Block]:
    """How fast a loader was, where its time goes, and what would change it."""
    name = {"tf": "loaders.load", "numpy": "loaders.numpy.Loader"}[found.loader]
    base = f"{show_bytes(found.base_bytes)} of it before the loader was made"
    numbers = {
        "speed": f"{found.rows_per_second:,.0f} rows/s, {found.bytes_per_second / 1e6:,.1f} MB/s of the shards",
        "a batch": f"{_milliseconds(found.batch_seconds)}, the shortest step that it can feed",
        "first batch": f"after {found.first_batch_seconds:.2f} s, imports not counted",
        "memory": f"{show_bytes(found.peak_bytes)} at most, {base}",
    }
    stages = ((s.name, f"{s.share:.0%}", f"{s.seconds_per_row * 1e6:.3g} s") for s in found.stages)
    said: list[Block] = [
        f"{name}, batches of {found.batch_size:,} rows of {found.split}, shuffled:\n",
        *(f"{what:<13}{value}" for what, value in numbers.items()),
        "",
        Table(columns=("stage", "time:", "a million rows:"), rows=tuple(stages)),
        f"\nHow the time was measured: {found.stages_how}.",
    ]
    if found.step is not None:
        verdict = "it would starve" if found.step.starves else "it would not starve"
        said.append(
            f"\nA training step of {_milliseconds(found.step.seconds)} would wait for its batches "
            f"{found.step.waiting:.1%} of the time: {verdict}. Measured with {found.step.steps:,} steps that sleep."
        )
        if not found.step.starves:
            return said
    if not found.advice:
        return [*said, "\nNothing that was tried makes it faster"]
    advice = (f"{tried.factor:6.2f} times: {tried.change}" for tried in found.advice)
    return [*said, "\nWhat makes it faster, each measured alone:\n", *advice]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
