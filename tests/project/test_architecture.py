"""Imports go in one direction."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
STAGES = (
    ("errors", "quiet", "progress", "archive", "interrupt", "options"),
    ("local",),
    ("metrics",),
    ("retry",),
    ("stores", "s3"),
    ("range_file",),
    ("files", "sources.npy", "reading.batches", "reading.boxes", "split_rules", "report", "versions"),
    ("kept",),
    # statistics, in NumPy alone
    ("statistics.blas", "statistics.exact", "statistics.estimators"),
    ("statistics.extended",),
    ("statistics.moments", "statistics.covariance"),
    ("statistics.summary",),
    ("statistics.quantiles", "statistics.frequencies", "statistics.groups", "statistics.drift"),
    # steps
    ("steps.graph_ops",),
    ("steps.step",),
    ("steps.imputation", "steps.scaling", "steps.ranking", "steps.projection", "steps.encoding"),
    ("steps.methods",),
    # configuration
    ("config", "resolve"),
    ("missing", "custom"),
    # sources
    ("sources.npz", "sources.parts", "reading.finite"),
    ("sources.headers", "sources.layout"),
    ("sources.listing", "sources.checks"),
    ("sources.packed",),
    ("sources.table",),
    ("choose", "reading.generated", "reading.requests", "provenance"),
    ("reading.ranges",),
    ("plan",),
    ("reading.columns", "output"),
    ("lock",),
    ("status",),
    ("reading.splits",),
    # passes
    ("fit", "spread"),
    ("preprocessing", "learn"),
    ("forecast",),
    ("export",),
    ("analyze", "transform"),
    ("encode",),
    ("wire",),
    ("write", "profile"),
    ("golden",),
    ("publish", "verify", "leakage"),
    # again, and around
    ("reuse", "sources.worker_headers"),
    ("growth",),
    ("append",),
    ("flink",),
    ("flink_runner",),
    ("running",),
    ("build",),
    ("validate",),
    ("calibrate",),
    ("inspect",),
    ("commands.common",),
    ("commands.forecasting",),
    ("commands.building", "commands.looking", "commands.measuring"),
    ("cli",),
)
BELOW = ("", ".sources", ".reading", ".statistics", ".steps", ".commands")
PACKAGES = {"loaders", *("pipelines" + sub for sub in BELOW)}
CONTRACT = {
    "loaders.format.frames",
    "loaders.format.spec",
    "loaders.format.manifest",
    "loaders.order.hashing",
    "loaders.version",
    "loaders",
}
LOADERS = CONTRACT | {"loaders.storage.allocator"}


SHOWING = ("inspect", "commands.building", "commands.looking", "commands.measuring", "cli")
"""These also show what a loader is like."""


def imported(path):
    """The modules of this project that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module in PACKAGES:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_stage_imports_a_later_one():
    rank = {module: number for number, stage in enumerate(STAGES) for module in stage}
    root = ROOT / "pipelines"
    modules = {".".join(path.relative_to(root).with_suffix("").parts): path for path in root.rglob("*.py")}
    modules = {name: path for name, path in modules.items() if not name.endswith("__init__")}
    assert set(rank) == set(modules)
    for module, own in rank.items():
        for name in imported(modules[module]):
            if name.startswith("pipelines."):
                assert rank[name.removeprefix("pipelines.")] <= own, f"{module} imports {name}"
            elif name.startswith("loaders") and module not in SHOWING:
                assert name in LOADERS, f"{module} imports {name}"


def test_the_loader_imports_no_pipeline():
    for path in (ROOT / "loaders").glob("*.py"):
        foreign = [name for name in imported(path) if name.split(".")[0] in ("pipelines", "apache_beam", "tfx_bsl")]
        assert not foreign, path.name
