"""What the program `npyflow` is: Ctrl-C ends it in one line from its first moment, while it is still imported."""

# PYTHON_ARGCOMPLETE_OK: shells may run it to complete what is typed.

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code is as the epilog of `--help` lists them."""
    try:
        from pipelines.cli.command import run  # here, as that takes a good part of a second

        return run(arguments)
    except KeyboardInterrupt:
        print("npyflow: interrupted", file=sys.stderr)
        return 130
