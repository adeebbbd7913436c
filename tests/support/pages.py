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
NAMED = re.compile(r"# (\w+\.(?:py|yaml))\b")
ELSEWHERE = re.compile(r"://|--runner=(?:Flink|Dataflow)Runner|--watch|--dry_run|npyflow bench")
"""What a command says that is for another machine, for ever, or measures: it is not run."""

PROGRAM = """
import contextlib, io, json, subprocess, sys
from pipelines.cli import main

shown = []
for kind, step, code in json.load(sys.stdin):
    if kind == "page":
        names = {"__name__": "__main__"}
        continue
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if kind == "python":
            exec(compile(step, step, "exec"), names)
        elif step[0] == "npyflow":
            found = main.main(step[1:])
        else:
            step[0] = {"python": sys.executable}.get(step[0], step[0])
            done = subprocess.run(step, capture_output=True, text=True)
            found = done.returncode and done.stderr
            print(done.stdout)
    if kind == "sh" and found != code:
        sys.exit(f"{step}: {found}")
    shown.append(said.getvalue())
sys.__stdout__.write(chr(10) + json.dumps(shown))
sys.__stdout__.flush()
"""


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and the text of each block of a file below the root of the project."""
    return BLOCK.findall((ROOT / page).read_text())


def commands(text: str) -> list[str]:
    """The commands of a block for a shell, one a line, without what is said beside them."""
    return [line.partition("#")[0].strip() for line in text.splitlines()]


def here(text: str) -> list[tuple[str, int]]:
    """The commands of a block that are run on this machine, and the exit code that is said of each, or 0."""
    found = []
    for line in text.splitlines():
        command, _, said = line.partition("#")
        if command.startswith(("npyflow ", "python ", "cp ")) and not ELSEWHERE.search(command):
            code = re.search(r"exit code (\d)", said)
            found.append((command.strip(), int(code[1]) if code else 0))
    return found


def run(page: str, directory: pathlib.Path) -> dict[str, str]:
    """What `run_all` does, for one page."""
    return run_all([page], directory)


def run_all(pages: Sequence[str], directory: pathlib.Path) -> dict[str, str]:
    """Runs what is Python, and the commands of npyflow; saves blocks that begin with the name of a file.

    No page sees another's variables, but all see the same files.

    Returns:
        What each block, or command, has printed.
    """
    steps: list[tuple[str, str | list[str], int]] = []
    names = []
    for kind, text in [step for page in pages for step in [("page", page), *blocks(page)]]:
        if named := NAMED.match(text):
            (directory / named[1]).write_text(text)
        elif kind == "page":
            steps.append((kind, text, 0))
        elif kind == "python":
            steps.append((kind, text, 0))
            names.append(text)
        elif kind == "sh":
            for command, code in here(text):
                steps.append((kind, shlex.split(command), code))
                names.append(command)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=directory,
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(directory)])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(names, json.loads(done.stdout.splitlines()[-1]), strict=True))
