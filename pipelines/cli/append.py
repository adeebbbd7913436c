"""`npyflow append`."""

from __future__ import annotations

import argparse
import time

from rich.console import Console

from pipelines.cli.build import show_built
from pipelines.cli.common import given, running, write_report
from pipelines.cli.terminal import long_work
from pipelines.interface import tables
from pipelines.interface.build import Built, append, refit
from pipelines.results import print_blocks


def run(options: argparse.Namespace, console: Console) -> int:
    """Adds new files to a data set, or builds it anew with them."""
    begun = time.monotonic()
    how = {"sync": options.sync, "trust": options.trust} | given(options, "on_error", "max_bad_files")
    with long_work(options, console):
        done = (refit if options.refit else append)(options.source, options.output, **how, **running(options, console))
    if done is None:
        console.print(f"{options.output} has all of {options.source} already; nothing was added", highlight=False)
    elif isinstance(done, Built):
        show_built(console, done, begun=begun)
    else:
        took = f"\n{options.output} has grown in {time.monotonic() - begun:.1f} s"
        print_blocks(console, ["", *done.blocks(), "", *tables.of_counts(done.counts, rows=done.added), took])
    write_report(options.json, {"rows": 0} if done is None else done.to_json())
    return 0
