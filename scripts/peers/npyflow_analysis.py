"""The analysis of a build alone: what its workers do in pass 1, in one process and without Beam."""

from __future__ import annotations

import functools
import pathlib
import time

from peers.data import Data
from pipelines.analyze.accumulate import add_units
from pipelines.analyze.fit import begin, update
from pipelines.analyze.rounds import analyzed_features, merge, schedule
from pipelines.config.schema import DatasetConfig
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.sources.table import scan

PACKAGES = ("numpy",)


def build(data: Data, out: pathlib.Path, *, variant: str) -> dict[str, float]:
    """Learns what a build learns; returns how many seconds a row takes."""
    config = DatasetConfig(splits={"train": 1.0}, row_axes=data.kind.row_axes)
    plan = make_plan(table := scan(str(data.root), config), resolve_config(config, table))
    features = analyzed_features(plan)
    began = time.perf_counter()
    known = begin(features.values())
    for needs in schedule(features.values()):
        added = (add_units(units, plan, needs, known) for units in plan.training_units.runs())
        known = update(features, known, functools.reduce(functools.partial(merge, features), added))
    return {"pace": (time.perf_counter() - began) / data.count}
