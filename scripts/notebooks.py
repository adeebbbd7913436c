"""Two tutorials as notebooks with their outputs, for the site: `out/docs/notebooks`.

Each is made of its page by jupytext and run, so that a notebook cannot say anything else than its page. Both the
notebook and a page that shows it lie there.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
import sys
import tempfile

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

from scripts.docs import ROOT, STAGE

PAGES = ("images", "table")
PLAIN = """
import os
for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)
"""
"""What runs first: commands print what they print into a file, as a notebook has no place for bars that move."""


def notebook(page: str) -> nbformat.NotebookNode:
    """A tutorial, without what its page says that cells print, and without links, which lead nowhere."""
    text = (ROOT / "docs" / "tutorials" / f"{page}.md").read_text(encoding="utf-8").partition("\n## Where to go on")[0]
    text = re.sub(r"^```text\n.*?^```\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text.replace("```sh\n", "```python\n%%sh\n"))
    made = jupytext.reads(text, fmt="md")
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def execute(made: nbformat.NotebookNode) -> None:
    """Runs a notebook in an empty directory, and keeps what it prints; the standard error is no part of a lesson."""
    made.cells.insert(0, nbformat.v4.new_code_cell(PLAIN))
    with tempfile.TemporaryDirectory() as directory:
        run = pathlib.Path(directory, "run")
        run.mkdir()
        local = Config({"KernelManager": {"transport": "ipc", "ip": f"{directory}/kernel"}})  # opens no port
        options = {"timeout": 600, "startup_timeout": 600, "coalesce_streams": True, "config": local}
        NotebookClient(made, resources={"metadata": {"path": str(run)}}, **options).execute()
    del made.cells[0]
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)  # its times
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def write(page: str, directory: pathlib.Path) -> None:
    """Runs a tutorial, and writes its notebook, and a page that shows it."""
    made = notebook(page)
    execute(made)
    nbformat.write(made, directory / f"{page}.ipynb")
    shown, _ = MarkdownExporter().from_notebook_node(made)
    title, _, rest = shown.partition("\n")
    about = f"[The tutorial](../docs/tutorials/{page}.md) as a notebook, as it ran: [{page}.ipynb]({page}.ipynb)."
    (directory / f"{page}.md").write_text(f"{title}\n\n{about}\n{rest}", encoding="utf-8")


if __name__ == "__main__":
    os.environ["PATH"] = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    target = STAGE / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda page: write(page, target), PAGES):
            pass
