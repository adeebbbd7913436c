"""`npyflow validate` and `npyflow bench`."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack

from rich.console import Console

from loaders.format.manifest import ManifestError
from pipelines.cli.common import count_workers, read_config, showing, write_report
from pipelines.errors import EXIT_FAILED, ConfigError


def run_validate(options: argparse.Namespace, console: Console) -> int:
    """Validates arrays."""
    from pipelines.cli import show
    from pipelines.maintain.reuse import open_existing
    from pipelines.maintain.validate import Thresholds, plan_validation, validate

    names = ("drift", "spread", "missing", "outside", "new_classes", "class_drift")
    said = {name: getattr(options, f"max_{name}") for name in names}
    thresholds = Thresholds(**{name: value for name, value in said.items() if value is not None})
    existing = open_existing(options.against) if options.against else None
    planned = plan_validation(options.source, read_config(options), existing)
    with showing(options, console, planned.plan, profiles=True, writes=False):
        workers = count_workers(options, planned.plan)
        found = validate(planned, thresholds, beam_options=options.beam_options, workers=workers)
    show.show_validation(console, found)
    if options.json:
        write_report(options.json, found.dumps())
    return EXIT_FAILED if found.problems else 0


def run_bench(options: argparse.Namespace, console: Console) -> int:
    """Measures a loader."""
    from loaders.diagnostics import bench
    from pipelines.cli import show
    from pipelines.runners import quiet

    quiet.keep_off_gpus()
    with ExitStack() as stack:
        stack.enter_context(console.status("measuring …"))
        if not options.debug:
            stack.enter_context(quiet.hidden_stderr())
        try:
            found = bench.measure(
                options.path,
                options.split,
                batch_size=options.batch_size,
                loader=options.loader,
                step_ms=options.step_ms,
                seconds=options.seconds,
            )
        except ManifestError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from error
    show.show_bench(console, found)
    if options.json:
        write_report(options.json, json.dumps(found.to_json(), indent=1) + "\n")
    return 0
