"""`npyflow verify`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import show
from pipelines.cli.terminal import quiet_work
from pipelines.interface.progress import following_rows
from pipelines.maintain.verify import STAGE, verify


def run(options: argparse.Namespace, console: Console) -> int:
    """Verifies a data set."""
    with quiet_work(debug=options.debug), following_rows(console, STAGE, options.path):
        found = verify(options.path, trust=options.trust)
    return show(options, console, found, failed=bool(found.problems))
