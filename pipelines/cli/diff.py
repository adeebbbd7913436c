"""`npyflow diff`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import write_report
from pipelines.errors import EXIT_FAILED
from pipelines.interface.progress import following_rows
from pipelines.maintain.diff import STAGE, diff
from pipelines.results import print_blocks


def run(options: argparse.Namespace, console: Console) -> int:
    """Compares two data sets."""
    with following_rows(console, STAGE, options.first, options.second):
        found = diff(options.first, options.second)
    print_blocks(console, found.blocks())
    write_report(options.json, found.to_json())
    return 0 if found.same else EXIT_FAILED
