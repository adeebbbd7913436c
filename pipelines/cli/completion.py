"""What the shell completes after a Tab: commands, options, files, and the splits of a data set."""

from __future__ import annotations

import argparse
import os


def complete(parser: argparse.ArgumentParser) -> None:
    """Tells a shell that asks what may come next, and ends the process; returns at once where none asks."""
    if "_ARGCOMPLETE" in os.environ:  # the shell's, as `register-python-argcomplete` sets it up
        import argcomplete  # only here: no command needs it

        argcomplete.autocomplete(parser)


def with_splits(action: argparse.Action) -> None:
    """Lets an option be completed with the splits of the data set that `path` is."""
    action.completer = _splits  # type: ignore[attr-defined]  # where argcomplete looks for it


def _splits(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    import loaders  # only here: other commands need less

    try:
        return list(loaders.open(parsed_args.path).splits)
    except (loaders.ManifestError, OSError):  # there is none yet
        return []
