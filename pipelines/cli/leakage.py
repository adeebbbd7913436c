"""`npyflow leakage`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import show
from pipelines.interface.progress import following_rows
from pipelines.maintain.leakage import STAGE, leakage


def run(options: argparse.Namespace, console: Console) -> int:
    """Finds rows that are in more than one split."""
    with following_rows(console, STAGE, options.path):
        found = leakage(options.path, features=options.features.split(",") if options.features else None)
    return show(options, console, found, failed=bool(found.distinct))
