"""`npyflow report`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import settings_of
from pipelines.cli.terminal import quiet_work
from pipelines.interface.report import report
from pipelines.results import print_blocks


def run(options: argparse.Namespace, console: Console) -> int:
    """Writes the page of a data set or of sources."""
    with quiet_work(debug=options.debug):  # a function of the user's own is traced
        made = report(
            options.path,
            options.output,
            options.config,
            against=options.against,
            leakage=options.leakage,
            settings=settings_of(options),
        )
    print_blocks(console, made.blocks())
    return 0
