"""Runs tools, one after the other: `python -m interop.run DIRECTORY FILE…` prints a line of JSON for each.

A file of `tools/` is a user's script, run where the data sets are, up to the line MARK; what follows makes `columns` of
what came, which are compared with the rows that were built. The first paragraph of its docstring names the tool, the
next one may say what has to be written more than a user would expect (`A line more: …`).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import pickle
import runpy
import sys
from typing import Any

from interop.compare import compare, joined

MARK = "# What follows compares it."


def run(path: pathlib.Path, directory: pathlib.Path) -> dict[str, Any]:
    """Runs a tool's file where the data sets are, and says what came of it: `features`, `wrong` or `error`."""
    os.chdir(directory)
    count, rows = pickle.loads((directory / "rows.pickle").read_bytes())
    try:
        found = runpy.run_path(str(path), run_name="__main__")
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    package = found.get("PACKAGE", "numpy")
    version = f"{package} {importlib.metadata.version(package)}"
    if "count" in found:  # of a tool that gives no rows; None where it has compared what it gives itself
        wrong = [] if found["count"] in (None, count) else [f"expected {count} rows; found {found['count']}"]
        return {"wrong": wrong, "version": version}
    columns = found["columns"]
    names, wrong = compare(columns if hasattr(columns, "keys") else joined(columns), rows, count=count)
    return {"features": len(names), "of": len(rows), "wrong": wrong, "version": version}


def main(directory: str, *names: str) -> None:
    """Runs files where the data sets are, and prints what came of each."""
    where, *files = (pathlib.Path(name).resolve() for name in (directory, *names))
    for file in files:
        print("\n" + json.dumps({"tool": file.stem} | run(file, where)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
