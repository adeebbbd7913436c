"""What commands share: sources planned, options read, progress shown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from pipelines.cli.interrupt import stopping_at_once
from pipelines.errors import ConfigError, NpyflowError

if TYPE_CHECKING:
    from pipelines.config.schema import DatasetConfig
    from pipelines.counters import Counter
    from pipelines.plan.plan import Plan


def plan_sources(source: str, options: argparse.Namespace) -> Plan:
    """Reads the configuration, checks the sources and plans."""
    from pipelines.analyze.custom import trace_configured
    from pipelines.plan.plan import make_plan
    from pipelines.plan.resolve import resolve_config
    from pipelines.sources.headers import header_reader
    from pipelines.sources.table import scan

    config = read_config(options)
    table = scan(source, config, read_headers=header_reader(options.beam_options))
    return make_plan(table, resolve_config(config, table, custom=trace_configured(config, table)))


def read_config(options: argparse.Namespace) -> DatasetConfig:
    """The configuration: the file, the settings, and the options that stand for one."""
    from pipelines.config.schema import load_config
    from pipelines.storage import files

    try:
        text = files.read_text(options.config) if options.config else ""
    except OSError as error:
        raise ConfigError(f"{options.config}: expected a file that can be read; found {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{options.config}: expected UTF-8 text; found {error.reason} at {error.start}") from error
    settings = list(options.settings)
    said = {key: getattr(options, key) for key in ("seed", "preprocessing_fn", "on_error", "max_bad_files")}
    settings += [f"{key}={json.dumps(value)}" for key, value in said.items() if value is not None]
    settings += _storage_settings(options)
    return load_config(text, settings, path=options.config or "the configuration")


def check_beam_options(options: argparse.Namespace) -> None:
    """Checks the options that go to Beam, if there are any.

    Raises:
        ConfigError: If one cannot be used.
    """
    if options.beam_options:  # before anything else: importing Beam to check them takes seconds
        from pipelines.runners.beam import pipeline_options

        pipeline_options(options.beam_options)


def reach_file_systems(options: argparse.Namespace) -> None:
    """Lets this process reach file systems as the options of a command, and its configuration, say.

    Raises:
        ConfigError: If they cannot be used.
    """
    from pipelines.storage.connections import configure

    if options.storage_option:  # the configuration may lie in such a file system itself
        from pipelines.config.schema import load_config

        configure(load_config("", _storage_settings(options), path="--storage_option").storage_options)
    if getattr(options, "config", None) or getattr(options, "settings", ()):
        configure(read_config(options).storage_options)


def _storage_settings(options: argparse.Namespace) -> list[str]:
    return [f"storage_options.{said}" for said in options.storage_option]


def count_workers(options: argparse.Namespace, plan: Plan) -> int:
    """How many processes of this machine share the work."""
    from pipelines.runners.beam import default_workers

    tasks = max(len(plan.training_units), plan.task_count)
    default = default_workers(plan.table.nbytes, tasks, options.beam_options)
    return default if options.workers is None else int(options.workers)


@contextmanager
def showing(
    options: argparse.Namespace,
    console: Console,
    plan: Plan,
    *,
    analyzes: bool = False,
    profiles: bool = False,
    writes: bool = True,
) -> Iterator[Counter]:
    """Shows the progress of what is run inside the context, and nothing else; gives what counts it."""
    from pipelines.cli.progress import shown
    from pipelines.counters import Count
    from pipelines.output.directory import Output
    from pipelines.output.tasks import FinishedTasks
    from pipelines.runners import flink, quiet
    from pipelines.runners.beam import runs_here
    from pipelines.storage import files

    finished = FinishedTasks(Output(options.output)) if writes else None

    def poll() -> dict[str, Count]:
        rows = finished.rows() if finished else 0
        return {"write": Count(rows=rows, size=rows * plan.table.row_bytes)}

    with ExitStack() as stack:
        stack.enter_context(stopping_at_once(console.show_cursor))
        if not options.debug and (runs_here(options.beam_options) or flink.Cluster.of(options.beam_options)):
            stack.enter_context(quiet.hidden_stderr())
            quiet.silence_worker_tracebacks()
        quiet.keep_off_gpus()
        totals = _totals(plan, analyzes=analyzes, profiles=profiles, writes=writes)
        # Listing a remote directory several times a second would be a burden.
        yield stack.enter_context(shown(console, totals, poll if writes and files.is_local(options.output) else dict))


def _totals(plan: Plan, *, analyzes: bool, profiles: bool, writes: bool) -> dict[str, int]:
    """How many rows each stage reads."""
    from pipelines.analyze.rounds import count_rounds

    totals = {}
    if analyzes:
        totals["analyze"] = plan.training_units.rows * (count_rounds(plan) + (plan.config.custom is not None))
    if profiles:
        totals["profile"] = plan.table.rows
    if writes:
        totals["write"] = plan.table.rows
    return totals


def write_report(path: str, text: str) -> None:
    """Writes a report for machines.

    Raises:
        NpyflowError: If the file cannot be written.
    """
    from pipelines.storage import files

    try:
        files.write_text(path, text)
    except OSError as error:
        found = error.strerror or str(error)
        raise NpyflowError(f"{path}: expected a file that can be written; found {found}") from error
