"""`npyflow status`."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipelines.cli.common import write_report
from pipelines.errors import EXIT_UNFINISHED
from pipelines.maintain.status import Watcher, describe_status, watch


def run(options: argparse.Namespace, console: Console) -> int:
    """Says how far a build is."""
    watcher = Watcher(options.path)
    shown: list[str] = []
    for found in watch(watcher) if options.watch else [watcher.read()]:
        lines = describe_status(found)
        changed = [line for line in lines if line not in shown]
        if any(not line.startswith(("the last task", "at work: ")) for line in changed):
            for line in changed:
                console.print(line, highlight=False)
        shown = lines
        write_report(options.json, found.to_json())
    return 0 if found.state == "finished" else EXIT_UNFINISHED
