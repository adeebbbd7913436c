"""What commands share: options turned into arguments, reports written."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from pipelines.errors import NpyflowError
from pipelines.output.directory import Output
from pipelines.storage import files


def settings_of(options: argparse.Namespace) -> list[str]:
    """Settings of the configuration: those of `--set`, and the options that stand for one."""
    said = {key: getattr(options, key) for key in ("seed", "preprocessing_fn", "on_error", "max_bad_files")}
    settings = [f"{key}={json.dumps(value)}" for key, value in said.items() if value is not None]
    return [*options.settings, *settings, *(f"storage_options.{value}" for value in options.storage_option)]


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of these names that were given."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def has_begun(output: str) -> bool:
    """Whether there is something in an output with which the same command would go on."""
    return bool(output) and files.exists(Output(files.absolute(output)).state)


def write_report(path: str | None, value: Any) -> None:
    """Writes a report for machines, where one is asked for; no directory is made for it.

    Raises:
        NpyflowError: If the file cannot be written.
    """
    if not path:
        return
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str, text: str) -> None:
    """Writes a file, or to the standard output where it is called "-"; no directory is made for it.

    Raises:
        NpyflowError: If the file cannot be written.
    """
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        if files.is_local(path):
            os.stat(os.path.dirname(os.path.abspath(path)))  # or it would be made
        files.write_text(path, text)
    except OSError as error:
        found = error.strerror or str(error)
        raise NpyflowError(f"{path}: expected a file that can be written; found {found}") from error
