"""`npyflow validate`."""

from __future__ import annotations

import argparse
import dataclasses

from rich.console import Console

from pipelines.cli.common import given, running, settings_of, show
from pipelines.cli.terminal import long_work
from pipelines.interface.validate import validate
from pipelines.maintain.validate import Thresholds


def run(options: argparse.Namespace, console: Console) -> int:
    """Validates arrays."""
    names = [f"max_{field.name}" for field in dataclasses.fields(Thresholds)]
    thresholds = Thresholds(**{name.removeprefix("max_"): value for name, value in given(options, *names).items()})
    with long_work(options, console):
        found = validate(
            options.source,
            options.config,
            against=options.against or None,
            thresholds=thresholds,
            settings=settings_of(options),
            **running(options, console),
        )
    return show(options, console, found, failed=bool(found.problems))
