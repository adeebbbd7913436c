"""Imports go in one direction."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
STAGES = (
    ("errors", "quiet", "progress", "archive", "interrupt", "options"),
    ("files", "npy", "batches", "split_rules", "report"),
    # statistics, in NumPy alone
    ("exact", "estimators"),
    ("moments", "covariance"),
    ("statistics",),
    ("quantiles", "frequencies", "groups", "drift"),
    # steps
    ("graph_ops",),
    ("steps",),
    ("imputation", "scaling", "ranking", "projection", "encoding"),
    ("methods",),
    # configuration
    ("config", "resolve"),
    ("missing", "custom"),
    # sources
    ("npz", "finite"),
    ("headers", "layout"),
    ("checks",),
    ("sources",),
    ("choose", "generated", "read", "provenance"),
    ("plan",),
    ("columns", "output"),
    ("splits",),
    # passes
    ("fit",),
    ("preprocessing",),
    ("analyze", "transform"),
    ("encode",),
    ("wire",),
    ("write", "profile"),
    ("golden",),
    ("publish", "verify", "leakage"),
    # again, and around
    ("reuse", "worker_headers"),
    ("growth",),
    ("append",),
    ("build",),
    ("validate",),
    ("inspect",),
    ("cli",),
)
LOADERS = {"loaders.spec", "loaders.manifest", "loaders.order", "loaders.version", "loaders"}


def imported(path):
    """The modules of this project that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module in ("pipelines", "loaders"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_stage_imports_a_later_one():
    rank = {module: number for number, stage in enumerate(STAGES) for module in stage}
    assert set(rank) == {path.stem for path in (ROOT / "pipelines").glob("*.py")} - {"__init__"}
    for module, own in rank.items():
        for name in imported(ROOT / "pipelines" / f"{module}.py"):
            if name.startswith("pipelines."):
                assert rank[name.split(".")[1]] <= own, f"{module} imports {name}"
            elif name.startswith("loaders"):
                assert name in LOADERS, f"{module} imports {name}"


def test_the_loader_imports_no_pipeline():
    for path in (ROOT / "loaders").glob("*.py"):
        foreign = [name for name in imported(path) if name.split(".")[0] in ("pipelines", "apache_beam", "tfx_bsl")]
        assert not foreign, path.name
