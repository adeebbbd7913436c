"""Runs all tools and prints the table: `python -m interop.table DIRECTORY [--write]`.

DIRECTORY holds the environments, each of which is called as a folder of `tools/`, and the data sets, in `work`.
"""

from __future__ import annotations

import ast
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from interop.run import MARK

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(__file__).with_name("tools")
PAGE = ROOT / "docs" / "reference" / "interop.md"
BEGIN, END = "<!-- written by scripts/interop.sh -->\n", "<!-- end -->\n"
OWN = "project"
"""The folder of tools that the packages of this project suffice for."""

RESULT = '{"tool": '
QUIET = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
# Nothing is asked of other machines, nor told to them.
QUIET |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}


def run(environment: str, files: Sequence[pathlib.Path], directory: pathlib.Path) -> list[dict[str, Any]]:
    """What came of each tool of an environment, or why it was not run. What ends the process is run by itself."""
    if environment != OWN and not (directory / f"{environment}.made").exists():
        return [{"missing": (directory / f"{environment}.failed").read_text().strip()}] * len(files)
    python = sys.executable if environment == OWN else directory / environment / "bin" / "python"
    command = [str(python), "-m", "interop.run", str(directory / "work"), *map(str, files)]
    variables = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "scripts")))}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    found = results(done.stdout)
    if len(found) == len(files):
        return found
    if len(files) == 1:
        return [{"error": f"it ended with {done.returncode}"}]
    return [each for file in files for each in run(environment, [file], directory)]


def results(said: str) -> list[dict[str, Any]]:
    """The results among all that tools have printed."""
    return [json.loads(line) for line in said.splitlines() if line.startswith(RESULT)]


def about(path: pathlib.Path) -> tuple[str, str, str, str]:
    """A tool's name, its line more, what it is expected to refuse, and the code of a user."""
    text = path.read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(text)) or ""
    name, *paragraphs = (" ".join(part.split()) for part in said.split("\n\n"))
    notes = dict(part.split(": ", 1) for part in paragraphs)
    code = text.split('"""\n', 1)[1].split(MARK)[0].strip()
    return name.removesuffix("."), notes.get("A line more", ""), notes.get("Refused", ""), code


def outcome(path: pathlib.Path, found: Mapping[str, Any]) -> tuple[str, bool]:
    """What the table says of a tool, and whether that is as it should be."""
    _, more, refused, _ = about(path)
    if "missing" in found:
        return f"cannot be installed here: {found['missing']}", True
    if "error" in found:
        expected = bool(refused) and refused in found["error"]
        return f"{'refused, says why' if expected else 'fails'}: {found['error']}", expected
    if found["wrong"] or refused:
        return f"silent: {'; '.join(found['wrong']) or 'not refused'}", False
    return f"works with a line more: {more}" if more else "works as is", True


def main(directory: pathlib.Path, *, write: bool) -> int:
    """Runs all, prints the table, and gives the exit status."""
    found: dict[pathlib.Path, dict[str, Any]] = {}
    for folder in sorted(TOOLS.iterdir()):
        files = sorted(folder.glob("*.py"))
        found |= zip(files, run(folder.name, files, directory), strict=True)
    return _show(found, write=write)


def _show(results: Mapping[pathlib.Path, Mapping[str, Any]], *, write: bool) -> int:
    rows, codes, status = ["| tool | | tried with | features compared |", "| --- | --- | --- | --- |"], [], 0
    for path, found in sorted(results.items(), key=lambda each: about(each[0])[0].lower()):
        text, good = outcome(path, found)
        status |= not good
        name, *_, code = about(path)
        counted = f"{found['features']} of {found['of']}" if "features" in found else ""
        rows.append(f"| {name} | {text} | {found.get('version', '')} | {counted} |")
        print(rows[-1], flush=True)
        codes.append(f"### {name}\n\n```py\n{code}\n```\n")
    if write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        table = "\n".join(rows)
        made = f"{before}{BEGIN}{table}\n\n## The code\n\n" + "\n".join(codes) + f"\n{END}" + rest.split(END)[1]
        PAGE.write_text(made, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), write="--write" in sys.argv))
