"""`npyflow leakage`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.errors import EXIT_FAILED
from pipelines.maintain.leakage import leakage
from pipelines.results import print_blocks


def run(options: argparse.Namespace, console: Console) -> int:
    """Finds rows that are in more than one split."""
    found = leakage(options.path, features=options.features.split(",") if options.features else None)
    print_blocks(console, found.blocks())
    return EXIT_FAILED if found.distinct else 0
