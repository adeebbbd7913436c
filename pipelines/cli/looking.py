"""The commands that read data sets and directories of arrays: `inspect`, `status`, `verify`, `leakage`."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack

from rich.console import Console

from pipelines.cli.common import plan_sources, write_report
from pipelines.errors import EXIT_FAILED, EXIT_UNFINISHED, ConfigError

SHUFFLED_EPOCHS = 2


def run_inspect(options: argparse.Namespace, console: Console) -> int:
    """Shows what a directory holds."""
    from pipelines.cli import show
    from pipelines.output.directory import Output, read_manifest
    from pipelines.output.state import read_state
    from pipelines.storage import files

    if options.shuffle:
        return _inspect_shuffle(options, console)
    if options.batch_size is not None:
        raise ConfigError("--batch_size: expected --shuffle with it; found none")
    output = Output(options.path)
    state = read_state(output)
    if files.exists(output.manifest):
        show.show_dataset(console, options.path, read_manifest(options.path))
    elif state is None:
        show.show_sources(console, plan_sources(options.path, options))
    if state is not None:
        show.show_unfinished(console, output, state)
    return 0


def _inspect_shuffle(options: argparse.Namespace, console: Console) -> int:
    """Shows how well the epochs of the training split mix its classes."""
    import loaders
    from loaders.diagnostics import shuffle_quality
    from pipelines.cli import show
    from pipelines.plan.resolve import is_training

    manifest = loaders.open(options.path).manifest
    split = next((name for name in manifest.splits if is_training(name)), next(iter(manifest.splits)))
    batch_size, found, problems = options.batch_size or 256, {}, []
    for label in shuffle_quality.class_labels(manifest.features):
        for epoch in range(SHUFFLED_EPOCHS):
            try:
                found[label, epoch] = shuffle_quality.compare_epoch(
                    options.path, split, label=label, batch_size=batch_size, epoch=epoch
                )
            except ValueError as error:
                problems.append(f"{label}, batches of {batch_size} rows of {split}: {error}")
                break
    if not found:
        have = ", ".join(f"{f.name} ({f.role}, {f.dtype}, {show.show_shape(f.shape)})" for f in manifest.features)
        expected = "expected a label that tells the class of a row, one value that is no float"
        raise ConfigError(f"{options.path}: " + ("\n".join(problems) if problems else f"{expected}; found {have}"))
    show.show_shuffle(console, found, split=split, batch_size=batch_size)
    for problem in problems:
        console.print(f"Not compared: {problem}", highlight=False, markup=False)
    return 0 if all(each.like_chance for each in found.values()) else EXIT_FAILED


def run_status(options: argparse.Namespace, console: Console) -> int:
    """Says how far a build is."""
    from pipelines.cli.show_outputs import describe_status
    from pipelines.maintain.status import Watcher, watch

    watcher = Watcher(options.path)
    shown: list[str] = []
    for found in watch(watcher) if options.watch else [watcher.read()]:
        lines = describe_status(found)
        changed = [line for line in lines if line not in shown]
        if any(not line.startswith(("the last task", "at work: ")) for line in changed):
            for line in changed:
                console.print(line, highlight=False)
        shown = lines
        if options.json:
            write_report(options.json, json.dumps(found.to_json(), indent=1) + "\n")
    return 0 if found.state == "finished" else EXIT_UNFINISHED


def run_verify(options: argparse.Namespace, console: Console) -> int:
    """Verifies a data set."""
    from pipelines.cli.progress import show_bytes
    from pipelines.maintain.verify import verify
    from pipelines.runners import quiet

    quiet.keep_off_gpus()
    with ExitStack() as stack:
        if not options.debug:
            stack.enter_context(quiet.hidden_stderr())
        found = verify(options.path)
    for problem in found.problems:
        console.print(str(problem), highlight=False, markup=False)
    if found.problems:
        count = len(found.problems)
        console.print(f"{options.path}: {count} problem{'s' if count != 1 else ''}", highlight=False)
        return EXIT_FAILED
    console.print(
        f"{options.path}: {found.shards:,} shards, {found.rows:,} rows, {show_bytes(found.bytes)}; "
        "all is as in the manifest",
        highlight=False,
    )
    return 0


def run_leakage(options: argparse.Namespace, console: Console) -> int:
    """Finds rows that are in more than one split."""
    from pipelines.cli.show_outputs import show_leaks
    from pipelines.maintain.leakage import find_leaks

    leaks = find_leaks(options.path, features=options.features.split(",") if options.features else None)
    show_leaks(console, leaks)
    return EXIT_FAILED if leaks.distinct else 0
