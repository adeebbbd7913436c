"""How large a source file may be, which names it may give, and what a test module may import."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("loaders", "pipelines") for path in (ROOT / folder).rglob("*.py")]
MOST_LINES = 400


def test_no_source_file_is_longer_than_one_can_read():
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in SOURCES}

    assert len(lines) > 100
    assert {file: count for file, count in lines.items() if count > MOST_LINES} == {}


VAGUE = {"each", "kept", "learn", "looking", "mixed", "mixing", "one", "taken"}
"""Names that say nothing of what is meant."""


def given_names(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def test_no_name_is_vague():
    found = {(path.relative_to(ROOT).as_posix(), name) for path in SOURCES for name in given_names(path)}

    assert len(found) > 10_000
    assert {(path, name) for path, name in found if name.lstrip("_") in VAGUE} == set()


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_test_modules_share_by_support_alone():
    modules = list((ROOT / "tests").rglob("*.py"))
    found = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in modules
        for name in imported_by(path)
        if name.startswith("tests.") and name.rpartition(".")[2].startswith("test_")
    ]

    assert len(modules) > 100
    assert found == []
