"""`npyflow export`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import running, show
from pipelines.cli.terminal import long_work
from pipelines.interface.export import export


def run(options: argparse.Namespace, console: Console) -> int:
    """Exports a data set."""
    with long_work(options, console):
        done = export(options.path, options.output, to=options.to, **running(options, console))
    return show(options, console, done)
