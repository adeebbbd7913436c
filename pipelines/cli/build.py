"""`npyflow build`."""

from __future__ import annotations

import argparse
import time

from rich.console import Console

from loaders.format.names import REPORT
from pipelines.cli.common import settings_of, write_report
from pipelines.cli.dry_run import show_dry_run
from pipelines.cli.terminal import long_work, quiet_work
from pipelines.errors import ConfigError
from pipelines.interface import tables
from pipelines.interface.arguments import read_config
from pipelines.interface.build import Built, plan_build, run_planned
from pipelines.output.directory import Output
from pipelines.results import print_blocks
from pipelines.storage import files


def run(options: argparse.Namespace, console: Console) -> int:
    """Builds a data set."""
    begun = time.monotonic()
    if options.prices and not options.dry_run:
        raise ConfigError("--prices: expected --dry_run with it; found none")
    with quiet_work(debug=options.debug):  # a function of the user's own is traced
        planned = plan_build(
            options.source,
            options.output,
            read_config(options.config, settings_of(options)),
            transform=options.transform or None,
            overwrite=options.overwrite,
            sync=options.sync,
            trust=options.trust,
            report=not options.no_report,
            beam_options=options.beam_options,
        )
    if options.dry_run:
        show_dry_run(options, console, planned, begun=begun)
        return 0
    planned.check()
    print_blocks(console, [*tables.of_sources(planned.plan), *tables.of_steps(planned.plan.config), ""])
    with long_work(options, console):
        built = run_planned(planned, workers=options.workers, progress=console)
    show_built(console, built, begun=begun)
    write_report(options.json, built.to_json())
    return 0


def show_built(console: Console, built: Built, *, begun: float) -> None:
    """Shows what a build has made, and how long that took since `begun`."""
    took = f"\n{built.root} is built in {time.monotonic() - begun:.1f} s"
    page = Output(built.root).path(REPORT)
    shown = f"; {page} shows it" if files.exists(page) else ""
    print_blocks(console, ["", *built.blocks(), took + shown])
