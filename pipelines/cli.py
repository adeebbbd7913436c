"""The command line: `npyflow inspect`, `build`, `append`, `validate`, `verify`, `leakage` and `bench`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from loaders.manifest import Manifest, ManifestError
from pipelines.errors import EXIT_BAD_INPUT, EXIT_FAILED, ConfigError, NpyflowError
from pipelines.interrupt import EXIT_INTERRUPTED, stopping_at_once
from pipelines.options import make_parser

if TYPE_CHECKING:
    from pipelines.config import DatasetConfig
    from pipelines.plan import Plan

RUN_BY_BEAM = ("build", "append", "validate")
SHUFFLED_EPOCHS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The arguments without the program's name; those of this process where None.

    Returns:
        The exit code, as the epilog of `--help` lists them.
    """
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in RUN_BY_BEAM:
        parser.error(f"unknown argument {rest[0]}")
    options.beam_options = rest
    console = Console(soft_wrap=True, markup=False, emoji=False)
    try:
        return _RUN[options.command](options, console)
    except (NpyflowError, ManifestError) as error:
        if options.debug:
            raise
        _complain(str(error))
        if isinstance(error, NpyflowError):
            return error.exit_code
        return EXIT_FAILED if options.command in ("verify", "leakage") else EXIT_BAD_INPUT
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if options.debug:
            raise
        _complain(f"{error.name} is not installed; this command needs pip install 'npyflow[pipelines]'")
        return EXIT_BAD_INPUT
    except Exception as error:
        if options.debug:
            raise
        _complain(f"{type(error).__name__}: {_last_line(error)}\n(--debug shows where)")
        return EXIT_FAILED


def run_inspect(options: argparse.Namespace, console: Console) -> int:
    """Shows what a directory holds."""
    from pipelines import files, inspect
    from pipelines.output import Output, read_state
    from pipelines.verify import read_manifest

    if options.shuffle:
        return _inspect_shuffle(options, console)
    if options.batch_size is not None:
        raise ConfigError("--batch_size: expected --shuffle with it; found none")
    output = Output(options.path)
    state = read_state(output)
    if files.exists(output.manifest):
        inspect.show_dataset(console, options.path, read_manifest(options.path))
    elif state is None:
        inspect.show_sources(console, _plan(options.path, options))
    if state is not None:
        inspect.show_unfinished(console, output, state)
    return 0


def _inspect_shuffle(options: argparse.Namespace, console: Console) -> int:
    """Shows how well the epochs of the training split mix its classes."""
    from loaders import info, mixing
    from pipelines import inspect
    from pipelines.plan import is_training

    manifest = info.read(options.path).manifest
    split = next((name for name in manifest.splits if is_training(name)), next(iter(manifest.splits)))
    batch_size, found, problems = options.batch_size or 256, {}, []
    for label in mixing.class_labels(manifest.features):
        for epoch in range(SHUFFLED_EPOCHS):
            try:
                found[label, epoch] = mixing.epoch_mixing(
                    options.path, split, label=label, batch_size=batch_size, epoch=epoch
                )
            except ValueError as error:
                problems.append(f"{label}, batches of {batch_size} rows of {split}: {error}")
                break
    if not found:
        have = ", ".join(f"{f.name} ({f.role}, {f.dtype}, {inspect.show_shape(f.shape)})" for f in manifest.features)
        expected = "expected a label that tells the class of a row, one value that is no float"
        raise ConfigError(f"{options.path}: " + ("\n".join(problems) if problems else f"{expected}; found {have}"))
    inspect.show_shuffle(console, found, split=split, batch_size=batch_size)
    for problem in problems:
        console.print(f"Not compared: {problem}", highlight=False, markup=False)
    return 0 if all(each.mixed for each in found.values()) else EXIT_FAILED


def run_build_command(options: argparse.Namespace, console: Console) -> int:
    """Builds a data set."""
    from pipelines import inspect
    from pipelines.build import run_build
    from pipelines.output import Output, check
    from pipelines.reuse import open_existing, plan_reuse

    begun = time.monotonic()
    _check_beam_options(options)
    existing = open_existing(options.transform) if options.transform else None
    if existing is None:
        plan = _plan(options.source, options)
    else:
        plan = plan_reuse(options.source, existing, _read_config(options))
    if options.dry_run:
        # The configuration alone goes to the standard output, so that it can be sent to a file.
        aside = Console(stderr=True, soft_wrap=True, markup=False, emoji=False)
        inspect.show_forecast_of(aside, plan)
        console.print(inspect.dump_config(plan.config), end="", highlight=False, markup=False, soft_wrap=True)
        return 0
    fingerprint = existing.fingerprint if existing else None
    check(Output(options.output), plan, overwrite=options.overwrite, transform_from=fingerprint)
    inspect.show_features(console, plan)
    inspect.show_transform(console, plan.config)
    console.print()
    with _showing(options, console, plan, analyzes=existing is None):
        manifest = run_build(
            plan,
            options.output,
            overwrite=options.overwrite,
            transform=existing,
            beam_options=options.beam_options,
            workers=_workers(options, plan),
        )
    _show_built(options, console, manifest, begun)
    return 0


def _show_built(options: argparse.Namespace, console: Console, manifest: Manifest, begun: float) -> None:
    from pipelines import inspect

    console.print()
    inspect.show_splits(console, manifest)
    inspect.show_left_out(console, manifest)
    console.print(f"\n{options.output} is built in {time.monotonic() - begun:.1f} s", highlight=False)


def run_append_command(options: argparse.Namespace, console: Console) -> int:
    """Adds new files to a data set."""
    from pipelines import inspect
    from pipelines.append import clear_append, finish_append, plan_append, plan_refit
    from pipelines.build import run_append, run_build
    from pipelines.reuse import open_existing

    begun = time.monotonic()
    _check_beam_options(options)
    if options.refit:
        plan = plan_refit(options.source, options.output, **_bad_files(options))
        with _showing(options, console, plan, analyzes=True):
            manifest = run_build(
                plan,
                options.output,
                overwrite=True,
                beam_options=options.beam_options,
                workers=_workers(options, plan),
            )
        _show_built(options, console, manifest, begun)
        return 0
    finish_append(options.output)
    existing = open_existing(options.output)
    addition = plan_append(options.source, existing, **_bad_files(options))
    if addition is None:
        clear_append(options.output)
        console.print(f"{options.output} has all of {options.source} already; nothing was added", highlight=False)
        return 0
    with _showing(options, console, addition, profiles=True):
        workers = _workers(options, addition)
        appended = run_append(addition, existing, beam_options=options.beam_options, workers=workers)
    inspect.show_appended(console, existing.manifest, appended)
    console.print(f"\n{options.output} has grown in {time.monotonic() - begun:.1f} s", highlight=False)
    return 0


def _bad_files(options: argparse.Namespace) -> dict[str, Any]:
    said = {"on_error": options.on_error, "max_bad_files": options.max_bad_files}
    return {key: value for key, value in said.items() if value is not None}


def run_validate(options: argparse.Namespace, console: Console) -> int:
    """Validates arrays."""
    from pipelines import inspect
    from pipelines.reuse import open_existing
    from pipelines.validate import Thresholds, plan_validation, validate

    _check_beam_options(options)
    names = ("drift", "spread", "missing", "outside", "new_classes", "class_drift")
    said = {name: getattr(options, f"max_{name}") for name in names}
    thresholds = Thresholds(**{name: value for name, value in said.items() if value is not None})
    existing = open_existing(options.against) if options.against else None
    planned = plan_validation(options.source, _read_config(options), existing)
    with _showing(options, console, planned.plan, profiles=True, writes=False):
        workers = _workers(options, planned.plan)
        found = validate(planned, thresholds, beam_options=options.beam_options, workers=workers)
    inspect.show_validation(console, found)
    if options.json:
        _write_report(options.json, found.dumps())
    return EXIT_FAILED if found.problems else 0


def _write_report(path: str, text: str) -> None:
    from pipelines import files

    try:
        files.write_text(path, text)
    except OSError as error:
        found = error.strerror or str(error)
        raise NpyflowError(f"{path}: expected a file that can be written; found {found}") from error


def run_bench(options: argparse.Namespace, console: Console) -> int:
    """Measures a loader."""
    from loaders import bench
    from pipelines import inspect, quiet

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
    inspect.show_bench(console, found)
    if options.json:
        _write_report(options.json, json.dumps(found.to_json(), indent=1) + "\n")
    return 0


def run_leakage(options: argparse.Namespace, console: Console) -> int:
    """Finds rows that are in more than one split."""
    from pipelines.leakage import find_leaks, show_leaks

    leaks = find_leaks(options.path, features=options.features.split(",") if options.features else None)
    show_leaks(console, leaks)
    return EXIT_FAILED if leaks.distinct else 0


def _workers(options: argparse.Namespace, plan: Plan) -> int:
    from pipelines.running import default_workers

    return default_workers(plan, options.beam_options) if options.workers is None else int(options.workers)


def _check_beam_options(options: argparse.Namespace) -> None:
    if options.beam_options:  # before anything else: importing Beam to check them takes seconds
        from pipelines.running import pipeline_options

        pipeline_options(options.beam_options)


@contextmanager
def _showing(
    options: argparse.Namespace,
    console: Console,
    plan: Plan,
    *,
    analyzes: bool = False,
    profiles: bool = False,
    writes: bool = True,
) -> Iterator[None]:
    """Shows the progress of what is run inside the context, and nothing else."""
    from pipelines import files, quiet
    from pipelines.allocator import keep_freed_memory
    from pipelines.output import FinishedTasks, Output
    from pipelines.progress import Count
    from pipelines.report import shown
    from pipelines.running import runs_here

    finished = FinishedTasks(Output(options.output)) if writes else None

    def poll() -> dict[str, Count]:
        rows = finished.rows() if finished else 0
        return {"write": Count(rows=rows, size=rows * plan.table.row_bytes)}

    with ExitStack() as stack:
        stack.enter_context(stopping_at_once(console.show_cursor))
        if not options.debug and runs_here(options.beam_options):
            stack.enter_context(quiet.hidden_stderr())
            quiet.silence_worker_tracebacks()
        quiet.keep_off_gpus()
        keep_freed_memory()
        totals = _totals(plan, analyzes=analyzes, profiles=profiles, writes=writes)
        # Listing a remote directory several times a second would be a burden.
        stack.enter_context(shown(console, totals, poll if writes and files.is_local(options.output) else dict))
        yield


def _totals(plan: Plan, *, analyzes: bool, profiles: bool, writes: bool) -> dict[str, int]:
    """How many rows each stage reads."""
    totals = {}
    if analyzes:
        from pipelines.learn import rounds

        totals["analyze"] = plan.rows_to_analyze * (rounds(plan) + (plan.config.custom is not None))
    if profiles:
        totals["profile"] = plan.table.rows
    if writes:
        totals["write"] = plan.table.rows
    return totals


def run_verify(options: argparse.Namespace, console: Console) -> int:
    """Verifies a data set."""
    from pipelines import quiet
    from pipelines.report import show_bytes
    from pipelines.verify import verify

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


def _plan(source: str, options: argparse.Namespace) -> Plan:
    """Reads the configuration, checks the sources and plans."""
    from pipelines.plan import make_plan, resolve_config
    from pipelines.running import header_reader
    from pipelines.sources.table import scan

    config = _read_config(options)
    table = scan(source, config, read_headers=header_reader(options.beam_options))
    return make_plan(table, resolve_config(config, table))


def _read_config(options: argparse.Namespace) -> DatasetConfig:
    """The configuration: the file, the settings, and the options that stand for one."""
    from pipelines import files
    from pipelines.config import load_config

    try:
        text = files.read_text(options.config) if options.config else ""
    except OSError as error:
        raise ConfigError(f"{options.config}: expected a file that can be read; found {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{options.config}: expected UTF-8 text; found {error.reason} at {error.start}") from error
    settings = list(options.settings)
    said = {key: getattr(options, key) for key in ("seed", "preprocessing_fn", "on_error", "max_bad_files")}
    settings += [f"{key}={json.dumps(value)}" for key, value in said.items() if value is not None]
    return load_config(text, settings, path=options.config or "the configuration")


def _last_line(error: BaseException) -> str:
    """The last line of a runner's error, which is the worker's traceback as text."""
    return (str(error).strip().splitlines() or [""])[-1]


def _complain(message: str) -> None:
    print(f"npyflow: {message}", file=sys.stderr)


_RUN: Mapping[str, Callable[[argparse.Namespace, Console], int]] = {
    "inspect": run_inspect,
    "build": run_build_command,
    "append": run_append_command,
    "validate": run_validate,
    "verify": run_verify,
    "leakage": run_leakage,
    "bench": run_bench,
}

if __name__ == "__main__":
    sys.exit(main())
