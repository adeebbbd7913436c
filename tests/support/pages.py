"""The code blocks of pages of the documentation, run in order, in one directory and one program, as in a notebook."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

from tests.support import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

PROGRAM = """
import contextlib, io, json, sys
from pipelines.cli import main

shown = []
for kind, step in json.load(sys.stdin):
    if kind == "page":
        names = {"__name__": "__main__"}
        continue
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if kind == "python":
            exec(compile(step, step, "exec"), names)
        elif code := main.main(step):
            sys.exit(f"npyflow {' '.join(step)}: {code}")
    shown.append(said.getvalue())
print(json.dumps(shown))
"""


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and the text of each block of a file below the root of the project."""
    return BLOCK.findall((ROOT / page).read_text())


def commands(text: str) -> list[str]:
    """The commands of a block for a shell, one a line, without what is said beside them."""
    return [line.partition("#")[0].strip() for line in text.splitlines()]


def run(page: str, directory: pathlib.Path) -> dict[str, str]:
    """What `run_all` does, for one page."""
    return run_all([page], directory)


def run_all(pages: Sequence[str], directory: pathlib.Path) -> dict[str, str]:
    """Runs what is Python, and what is a command of npyflow; saves blocks that begin with the name of a file.

    No page sees another's variables, but all see the same files.

    Returns:
        What each block, or command, has printed.
    """
    steps: list[tuple[str, str | list[str]]] = []
    names = []
    for kind, text in [step for page in pages for step in [("page", page), *blocks(page)]]:
        if named := re.match(r"# (\w+\.(?:py|yaml))\b", text):
            (directory / named[1]).write_text(text)
        elif kind == "page":
            steps.append((kind, text))
        elif kind == "python":
            steps.append((kind, text))
            names.append(text)
        elif kind == "sh":
            for command in commands(text):
                if command.startswith("npyflow "):
                    steps.append((kind, shlex.split(command)[1:]))
                    names.append(command)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=directory,
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(names, json.loads(done.stdout.splitlines()[-1]), strict=True))
