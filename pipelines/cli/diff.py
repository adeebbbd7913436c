"""`npyflow diff`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import show
from pipelines.interface.progress import following_rows
from pipelines.maintain.diff import STAGE, diff


def run(options: argparse.Namespace, console: Console) -> int:
    """Compares two data sets."""
    with following_rows(console, STAGE, options.first, options.second):
        found = diff(options.first, options.second)
    return show(options, console, found, failed=not found.same)
