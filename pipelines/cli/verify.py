"""`npyflow verify`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import write_report
from pipelines.cli.terminal import quiet_work
from pipelines.errors import EXIT_FAILED
from pipelines.interface.progress import following_rows
from pipelines.maintain.verify import STAGE, verify
from pipelines.results import print_blocks


def run(options: argparse.Namespace, console: Console) -> int:
    """Verifies a data set."""
    with quiet_work(debug=options.debug), following_rows(console, STAGE, options.path):
        found = verify(options.path, trust=options.trust)
    print_blocks(console, found.blocks())
    write_report(options.json, found.to_json())
    return EXIT_FAILED if found.problems else 0
