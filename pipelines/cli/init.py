"""`npyflow init`."""

from __future__ import annotations

import argparse
import shlex

from rich.console import Console

from pipelines.cli.common import settings_of, write_report, write_text
from pipelines.cli.terminal import quiet_work
from pipelines.errors import ConfigError
from pipelines.interface.inspect import inspect
from pipelines.storage import files


def run(options: argparse.Namespace, console: Console) -> int:
    """Writes what a build would do as a configuration with comments, to be changed."""
    path = options.output
    if path != "-" and not options.overwrite and files.exists(path):
        raise ConfigError(f"{path}: expected no such file, or --overwrite; found one")
    with quiet_work(debug=options.debug):  # a function of the user's own is traced
        found = inspect(options.path, options.config, settings=settings_of(options))
    write_text(path, found.as_yaml())
    if path != "-":
        command = shlex.join(["npyflow", "build", options.path, "OUT", "--config", path])
        console.print(f"{path} is written; change what you like, then: {command}", highlight=False)
    write_report(options.json, found.to_json())
    return 0
