"""The command line: `npyflow inspect`, `npyflow build` and `npyflow verify`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console

from loaders.manifest import Manifest, ManifestError
from loaders.version import VERSION
from pipelines.errors import EXIT_BAD_INPUT, EXIT_FAILED, ConfigError, NpyflowError

if TYPE_CHECKING:
    from pipelines.plan import Plan

EXIT_INTERRUPTED = 130

EPILOG = """exit codes:
  0    done
  1    the work failed: values that cannot be used, a data set that does not verify, a runner that failed
  2    nothing was begun: bad sources, configuration, options or output directory
  130  interrupted; the same command goes on where it stopped
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The arguments without the program's name; those of this process where None.

    Returns:
        The exit code, as the epilog of `--help` lists them.
    """
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "build":
        parser.error(f"unknown argument {rest[0]}")
    options.beam_options = rest
    console = Console(soft_wrap=True, markup=False, emoji=False)
    try:
        return int(options.run(options, console))
    except (NpyflowError, ManifestError) as error:
        if options.debug:
            raise
        _complain(str(error))
        if isinstance(error, NpyflowError):
            return error.exit_code
        return EXIT_FAILED if options.command == "verify" else EXIT_BAD_INPUT
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


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line; what it does not know is left to Beam."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    parser = argparse.ArgumentParser(
        prog="npyflow",
        description="Turns directories of NumPy .npy files into training data.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"npyflow {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    inspect = commands.add_parser(
        "inspect", parents=[common], help="show what a directory of arrays, or a data set, holds", allow_abbrev=False
    )
    inspect.add_argument("path", metavar="PATH", help="a directory of .npy files, or a data set")
    _add_config_options(inspect)
    inspect.set_defaults(run=run_inspect)

    build = commands.add_parser(
        "build",
        parents=[common],
        help="build a data set from a directory of arrays",
        allow_abbrev=False,
        epilog="Any other option --NAME=VALUE goes to Beam: --runner=FlinkRunner, --direct_num_workers=2 …",
    )
    build.add_argument("source", metavar="SRC", help="a directory of .npy files, in any file system that Beam reads")
    build.add_argument("output", metavar="OUT", help="the directory for the data set")
    _add_config_options(build)
    build.add_argument("--overwrite", action="store_true", help="replace a data set that is there")
    build.add_argument("--dry_run", action="store_true", help="check, forecast, print the configuration; write nothing")
    build.set_defaults(run=run_build_command)

    verify = commands.add_parser(
        "verify", parents=[common], help="check a data set against its manifest", allow_abbrev=False
    )
    verify.add_argument("path", metavar="OUT", help="a data set")
    verify.set_defaults(run=run_verify)
    return parser


def _add_config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="a YAML file")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="one key of the configuration, such as features.images.normalize=none; may be repeated",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the seed of the splits and of the order of rows")


def run_inspect(options: argparse.Namespace, console: Console) -> int:
    """Shows what a directory holds."""
    from pipelines import files, inspect
    from pipelines.output import Output
    from pipelines.verify import read_manifest

    if files.exists(Output(options.path).manifest):
        inspect.show_dataset(console, options.path, read_manifest(options.path))
        return 0
    inspect.show_sources(console, _plan(options.path, options))
    return 0


def run_build_command(options: argparse.Namespace, console: Console) -> int:
    """Builds a data set."""
    from pipelines import inspect
    from pipelines.output import Output, check

    begun = time.monotonic()
    if options.beam_options:  # before anything else: importing Beam to check them takes seconds
        from pipelines.build import pipeline_options

        pipeline_options(options.beam_options)
    plan = _plan(options.source, options)
    if options.dry_run:
        inspect.show_sources(console, plan)
        return 0
    check(Output(options.output), plan, overwrite=options.overwrite)
    inspect.show_features(console, plan.table)
    console.print()
    manifest = _run_and_show(plan, options, console)
    console.print()
    inspect.show_splits(console, manifest)
    console.print(f"\n{options.output} is built in {time.monotonic() - begun:.1f} s", highlight=False)
    return 0


def _run_and_show(plan: Plan, options: argparse.Namespace, console: Console) -> Manifest:
    """Runs a build, with its progress on the terminal and nothing else."""
    from pipelines import files, quiet
    from pipelines.build import run_build, runs_here
    from pipelines.output import FinishedTasks, Output
    from pipelines.progress import Count
    from pipelines.report import shown

    finished = FinishedTasks(Output(options.output))

    def poll() -> dict[str, Count]:
        rows = finished.rows()
        return {"write": Count(rows=rows, size=rows * plan.table.row_bytes)}

    with ExitStack() as stack:
        stack.enter_context(_stopping_at_once(console))
        if not options.debug and runs_here(options.beam_options):
            stack.enter_context(quiet.hidden_stderr())
            quiet.silence_worker_tracebacks()
        quiet.import_tensorflow()
        totals = {"analyze": plan.rows_to_analyze, "write": plan.table.rows}
        # Listing a remote directory several times a second would be a burden.
        stack.enter_context(shown(console, totals, poll if files.is_local(options.output) else dict))
        return run_build(plan, options.output, overwrite=options.overwrite, beam_options=options.beam_options)


def run_verify(options: argparse.Namespace, console: Console) -> int:
    """Verifies a data set."""
    from pipelines.report import show_bytes
    from pipelines.verify import verify

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
    from pipelines import files
    from pipelines.config import load_config
    from pipelines.plan import make_plan, resolve_config
    from pipelines.sources import scan

    try:
        text = files.read_text(options.config) if options.config else ""
    except OSError as error:
        raise ConfigError(f"{options.config}: expected a file that can be read; found {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{options.config}: expected UTF-8 text; found {error.reason} at {error.start}") from error
    settings = list(options.settings)
    if options.seed is not None:
        settings.append(f"seed={options.seed}")
    config = load_config(text, settings, path=options.config or "the configuration")
    table = scan(source, config)
    return make_plan(table, resolve_config(config, table))


def _last_line(error: BaseException) -> str:
    """The last line of a runner's error, which is the worker's traceback as text."""
    return (str(error).strip().splitlines() or [""])[-1]


def _complain(message: str) -> None:
    print(f"npyflow: {message}", file=sys.stderr)


@contextmanager
def _stopping_at_once(console: Console) -> Iterator[None]:
    """Makes Ctrl-C end this process, whatever a runner and its threads are doing.

    Python's own KeyboardInterrupt can be swallowed on its way through a runner. Nothing needs to be put in order: what
    is half written is not part of a data set, and the next run of the same command removes it.
    """

    def stop(*_: object) -> None:
        console.show_cursor()
        _kill_descendants(os.getpid())
        os.write(terminal, b"npyflow: interrupted; the same command goes on where it stopped\n")
        os._exit(EXIT_INTERRUPTED)

    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return
    terminal = os.dup(2)
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(terminal)


def _kill_descendants(pid: int) -> None:
    """Kills the processes below a process: Beam's workers, which would go on with what they have begun."""
    try:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return  # without ps they end by themselves, some seconds later
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    pending = children.get(pid, [])
    while pending:
        child = pending.pop()
        pending += children.get(child, [])
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
