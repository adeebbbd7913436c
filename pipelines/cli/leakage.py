"""`npyflow leakage`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import write_report
from pipelines.errors import EXIT_FAILED
from pipelines.interface.progress import following_rows
from pipelines.maintain.leakage import STAGE, leakage
from pipelines.results import print_blocks


def run(options: argparse.Namespace, console: Console) -> int:
    """Finds rows that are in more than one split."""
    with following_rows(console, STAGE, options.path):
        found = leakage(options.path, features=options.features.split(",") if options.features else None)
    print_blocks(console, found.blocks())
    write_report(options.json, found.to_json())
    return EXIT_FAILED if found.distinct else 0
