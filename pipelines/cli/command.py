"""The command line: it reads the options, runs a command and reports what went wrong."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Sequence

from loaders.format.manifest import ManifestError
from pipelines.cli.completion import complete
from pipelines.cli.options import make_parser
from pipelines.errors import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    GOES_ON,
    ConfigError,
    NpyflowError,
    SourceError,
    plain,
    suggest,
)
from pipelines.results import PlainConsole
from pipelines.storage.file_systems import configure, refuse_replaced

RUN_BY_BEAM = ("build", "append", "validate", "export")
WRITING = ("build", "append", "export")


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; arguments and exit code are those of `main`."""
    parser = make_parser()
    complete(parser)
    options, rest = parser.parse_known_args(arguments)
    refused = _refused(options, rest)
    if refused:
        parser.error(refused)
    options.beam_options = rest
    console = PlainConsole(quiet=options.quiet or options.json == "-", soft_wrap=True, markup=False, emoji=False)
    try:
        _reach_file_systems(options.storage_option)
        _check_beam_options(options)
        code: int = importlib.import_module(f"pipelines.cli.{options.command}").run(options, console)
        return code
    except (NpyflowError, ManifestError) as error:
        if options.debug:
            raise
        nothing = "; nothing was written" if isinstance(error, SourceError) and options.command in WRITING else ""
        head, *problems = str(error).split("\n")
        _complain("\n".join([head + nothing, *problems]))
        if isinstance(error, NpyflowError):
            return error.exit_code
        return EXIT_FAILED if options.command == "verify" else EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        if options.debug:
            raise
        _complain(f"{error.name} is not installed; this command needs pip install 'npyflow[pipelines]'")
        return EXIT_BAD_INPUT
    except Exception as error:
        if options.debug:
            raise
        begun = options.command not in WRITING or _has_begun(options.output)
        _complain(_describe(error, goes_on=begun and options.command in WRITING))
        return EXIT_FAILED if begun or not isinstance(error, OSError) else EXIT_BAD_INPUT


def _reach_file_systems(said: Sequence[str]) -> None:
    """Lets this process reach file systems as options say: the configuration may lie in one itself."""
    if said:
        from pipelines.config.schema import load_config

        settings = [f"storage_options.{option}" for option in said]
        configure(load_config("", settings, path="--storage_option").storage_options)


def _check_beam_options(options: argparse.Namespace) -> None:
    if not options.beam_options:  # before anything else: importing Beam to check them takes seconds
        return
    from pipelines.runners.beam import pipeline_options

    try:
        pipeline_options(options.beam_options)
    except ConfigError as error:
        wrong = (option for option in options.beam_options if option.partition("=")[0] in str(error))
        raise ConfigError(f"{error}{_suggest(options, next(wrong, ''))}") from error


def _suggest(options: argparse.Namespace, wrong: str) -> str:
    """Which option of the command may have been meant; "" where none is near."""
    return suggest(wrong.partition("=")[0], re.findall(r"--\w+", options.usage()))


def _refused(options: argparse.Namespace, rest: Sequence[str]) -> str | None:
    """What is wrong with arguments that npyflow does not know, before Beam is asked what it knows."""
    try:
        refuse_replaced(rest)
    except ConfigError as error:
        return str(error)
    if options.command in RUN_BY_BEAM or not rest:
        return None
    meant = _suggest(options, rest[0]) or "; options of file systems are given with --storage_option"
    name = rest[0].partition("=")[0]  # what comes after it may be a secret
    return f"unknown argument {name}{meant}"


def _has_begun(output: str) -> bool:
    from pipelines.cli.common import has_begun  # needs packages of which `run` says how to install them

    try:
        return has_begun(output)
    except Exception:  # a store that cannot be reached
        return False


def _describe(error: Exception, *, goes_on: bool) -> str:
    """What a person is told of an error that is none of npyflow's own."""
    if isinstance(error, OSError) and (path := error.filename2 or error.filename):
        more = f". {GOES_ON}" if goes_on else ""
        return f"{path}: {error.strerror}{more}"
    # A runner's error is the worker's traceback as text.
    last = (str(error).strip().splitlines() or [""])[-1]
    return f"{type(error).__name__}: {last}\n(--debug shows where)"


def _complain(message: str) -> None:
    print(plain(f"npyflow: {message}"), file=sys.stderr)
