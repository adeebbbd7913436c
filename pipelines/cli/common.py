"""What commands share: options turned into arguments, reports written."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from rich.console import Console

from pipelines.errors import EXIT_FAILED, writing
from pipelines.output.directory import Output
from pipelines.results import Result, print_blocks
from pipelines.storage import files


def settings_of(options: argparse.Namespace) -> list[str]:
    """Settings of the configuration: those of `--set`, and the options that stand for one."""
    said = {key: getattr(options, key) for key in ("seed", "preprocessing_fn", "on_error", "max_bad_files")}
    settings = [f"{key}={json.dumps(value)}" for key, value in said.items() if value is not None]
    return [*options.settings, *settings, *(f"storage_options.{value}" for value in options.storage_option)]


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of these names that were given."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def running(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Who does the work of a command that Beam may run, and where its progress is shown."""
    return {"workers": options.workers, "progress": console, "beam_options": options.beam_options}


def has_begun(output: str) -> bool:
    """Whether there is something in an output with which the same command would go on."""
    return bool(output) and files.exists(Output(files.absolute(output)).state)


def write_report(path: str | None, value: Any) -> None:
    """Writes a report for machines, where one is asked for."""
    if path:
        write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def show(options: argparse.Namespace, console: Console, found: Result, *, failed: bool = False) -> int:
    """Shows what was found or done, and writes the report for machines; the exit code."""
    print_blocks(console, found.blocks())
    write_report(options.json, found.to_json())
    return EXIT_FAILED if failed else 0


def write_text(path: str, text: str) -> None:
    """Writes a file, or to the standard output where it is called "-"; no directory is made for it."""
    if path == "-":
        sys.stdout.write(text)
        return
    with writing(path):
        if files.is_local(path):
            os.stat(os.path.dirname(os.path.abspath(path)))  # or it would be made
        files.write_text(path, text)
