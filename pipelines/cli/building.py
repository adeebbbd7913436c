"""`npyflow build` and `npyflow append`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.console import Console

from loaders.format.manifest import Manifest
from pipelines.cli.common import count_workers, plan_sources, read_config, showing
from pipelines.counters import Counter


def run_build_command(options: argparse.Namespace, console: Console) -> int:
    """Builds a data set."""
    from pipelines.cli import show
    from pipelines.maintain.reuse import open_existing, plan_reuse
    from pipelines.output.directory import Output
    from pipelines.output.state import check
    from pipelines.run import run_build

    begun = time.monotonic()
    existing = open_existing(options.transform) if options.transform else None
    if existing is None:
        plan = plan_sources(options.source, options)
    else:
        plan = plan_reuse(options.source, existing, read_config(options))
    if options.dry_run:
        from pipelines.cli.forecasting import show_dry_run

        show_dry_run(options, console, plan, existing=existing, begun=begun)
        return 0
    fingerprint = existing.fingerprint if existing else None
    check(Output(options.output), plan, overwrite=options.overwrite, transform_from=fingerprint)
    show.show_features(console, plan)
    show.show_transform(console, plan.config)
    console.print()
    with showing(options, console, plan, analyzes=existing is None) as counter:
        manifest = run_build(
            plan,
            options.output,
            overwrite=options.overwrite,
            transform=existing,
            beam_options=options.beam_options,
            workers=count_workers(options, plan),
        )
    _show_built(options, console, manifest, counter, begun)
    return 0


def _show_built(
    options: argparse.Namespace, console: Console, manifest: Manifest, counter: Counter, begun: float
) -> None:
    from pipelines.cli import show

    console.print()
    show.show_splits(console, manifest)
    show.show_left_out(console, manifest)
    _show_counts(console, counter, rows=sum(map(manifest.rows, manifest.splits)))
    console.print(f"\n{options.output} is built in {time.monotonic() - begun:.1f} s", highlight=False)


def _show_counts(console: Console, counter: Counter, *, rows: int) -> None:
    from pipelines.cli.progress import show_counts

    console.print()
    for line in show_counts(counter.counts(), rows=rows):
        console.print(line, highlight=False)


def run_append_command(options: argparse.Namespace, console: Console) -> int:
    """Adds new files to a data set."""
    from pipelines.cli import show
    from pipelines.maintain.append import plan_append, plan_refit
    from pipelines.maintain.commit import clear_append, finish_append
    from pipelines.maintain.reuse import open_existing
    from pipelines.run import run_append, run_build

    begun = time.monotonic()
    if options.refit:
        plan = plan_refit(options.source, options.output, **_bad_files(options))
        with showing(options, console, plan, analyzes=True) as counter:
            manifest = run_build(
                plan,
                options.output,
                overwrite=True,
                beam_options=options.beam_options,
                workers=count_workers(options, plan),
            )
        _show_built(options, console, manifest, counter, begun)
        return 0
    finish_append(options.output)
    existing = open_existing(options.output)
    addition = plan_append(options.source, existing, **_bad_files(options))
    if addition is None:
        clear_append(options.output)
        console.print(f"{options.output} has all of {options.source} already; nothing was added", highlight=False)
        return 0
    with showing(options, console, addition, profiles=True) as counter:
        workers = count_workers(options, addition)
        appended = run_append(addition, existing, beam_options=options.beam_options, workers=workers)
    show.show_appended(console, existing.manifest, appended)
    rows = [sum(map(manifest.rows, manifest.splits)) for manifest in (existing.manifest, appended.manifest)]
    _show_counts(console, counter, rows=rows[1] - rows[0])
    console.print(f"\n{options.output} has grown in {time.monotonic() - begun:.1f} s", highlight=False)
    return 0


def _bad_files(options: argparse.Namespace) -> dict[str, Any]:
    said = {"on_error": options.on_error, "max_bad_files": options.max_bad_files}
    return {key: value for key, value in said.items() if value is not None}
