"""The table of folders and modules in docs/architecture.md, made from the tree and the docstrings of `__init__.py`.

python scripts/layout.py writes it; the tests fail where it is not up to date.
"""

from __future__ import annotations

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- written by scripts/layout.py -->\n", "<!-- end -->\n"


def table(root: pathlib.Path) -> str:
    """A row for each folder of `pipelines` and `loaders`: its name, what it owns, its modules."""
    lines = ["| folder | what it owns | modules |", "| --- | --- | --- |"]
    for package in ("pipelines", "loaders"):
        folders = sorted(path.parent for path in (root / package).rglob("__init__.py"))
        lines += [_row(folder, folder.relative_to(root).as_posix()) for folder in folders]
    return "\n".join(lines) + "\n"


def _row(folder: pathlib.Path, name: str) -> str:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    owned = " ".join(text.split("\n\n")[0].split())
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
    return f"| `{name}/` | {owned} | {', '.join(f'`{module}`' for module in modules)} |"


def updated(page: str, root: pathlib.Path) -> str:
    """The page with the table of today."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}{table(root)}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), ROOT), encoding="utf-8")
