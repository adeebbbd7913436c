"""What the rounds of pass 1 do with the training rows, without Beam."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from pipelines import counters
from pipelines.analyze import fit
from pipelines.analyze.fit import Accumulated, Knowledge, Need
from pipelines.config.resolved import ResolvedFeature
from pipelines.plan.plan import Plan
from pipelines.reading.columns import Columns, read_columns, take
from pipelines.reading.splits import assign
from pipelines.runners.pool import WorkerPool

STAGE = "analyze"


def learning(plan: Plan) -> dict[str, ResolvedFeature]:
    """The features that something is learned of, by name."""
    return {feature.name: feature for feature in plan.config.features if feature.learns}


def rounds(plan: Plan) -> int:
    """How many times the training rows are read."""
    return len(fit.schedule(tuple(learning(plan).values())))


def begin_first_round(plan: Plan, workers: WorkerPool) -> Future[Accumulated] | None:
    """Begins the first reading of the training rows, which needs nothing that takes time to import.

    Returns:
        What `Analyze` takes, or None where there is nothing to read.
    """
    features = learning(plan)
    schedule = fit.schedule(tuple(features.values()))
    units = plan.training_units.runs()
    if not schedule or not units:
        return None
    merge = functools.partial(fit.merge_accumulated, features)
    return workers.reduce(merge, add_units, units, schedule[0], fit.begin(features.values()))


def add_units(units: tuple[int, int], plan: Plan, needs: Sequence[Need], known: Knowledge) -> Accumulated:
    """What the training rows of some units of analysis add in one round."""
    features = learning(plan)
    names = fit.inputs_of(features[need.feature] for need in needs)
    added = (
        fit.accumulate(needs, features, known, read_training_rows(unit, plan, names=names)) for unit in range(*units)
    )
    result = functools.reduce(functools.partial(fit.merge_accumulated, features), added)
    counters.count("missing", sum(int(np.sum(result[need].missing)) for need in needs if need.what == "moments"))
    return result


def read_training_rows(unit: int, plan: Plan, *, names: Sequence[str]) -> Columns:
    """The training rows of one unit of analysis; there may be none."""
    spans = plan.training_units.spans(unit)
    training = assign(plan, spans) == plan.training_index
    columns = read_columns(plan, spans, stage=STAGE, features=tuple(names))
    return columns if training.all() else take(columns, training)
