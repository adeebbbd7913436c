"""The command line: it reads the options, runs a command and reports what went wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from loaders.manifest import ManifestError
from pipelines.commands import building, looking, measuring
from pipelines.errors import EXIT_BAD_INPUT, EXIT_FAILED, NpyflowError
from pipelines.interrupt import EXIT_INTERRUPTED
from pipelines.options import make_parser

RUN_BY_BEAM = ("build", "append", "validate")


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


def _last_line(error: BaseException) -> str:
    """The last line of a runner's error, which is the worker's traceback as text."""
    return (str(error).strip().splitlines() or [""])[-1]


def _complain(message: str) -> None:
    print(f"npyflow: {message}", file=sys.stderr)


_RUN: Mapping[str, Callable[[argparse.Namespace, Console], int]] = {
    "inspect": looking.run_inspect,
    "build": building.run_build_command,
    "append": building.run_append_command,
    "validate": measuring.run_validate,
    "status": looking.run_status,
    "verify": looking.run_verify,
    "leakage": looking.run_leakage,
    "bench": measuring.run_bench,
}

if __name__ == "__main__":
    sys.exit(main())
