"""What the training rows of some units add up to in one round, without Beam."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.names import OF_FUNCTION
from loaders.order.hashing import SHARD_ROWS, U64
from pipelines import counters
from pipelines.analyze import rounds
from pipelines.analyze.fit import Fitted, Known, begin
from pipelines.analyze.graph import apply_steps, check_domain
from pipelines.analyze.rounds import Accumulated, Analyzed, Need
from pipelines.config.resolved import AnalyzerCall, ResolvedFeature
from pipelines.plan.plan import Plan
from pipelines.plan.units import Span
from pipelines.reading import missing
from pipelines.reading.batches import Columns, Ragged, take
from pipelines.reading.columns import read_columns
from pipelines.reading.split_assignment import assign
from pipelines.runners.pool import WorkerPool, results_of
from pipelines.statistics.passes import Pass
from pipelines.statistics.sample import Sample, choose
from pipelines.statistics.summary import ColumnMoments, statistics_axes
from pipelines.steps.graph_ops import keys_of

STAGE = "analyze"

PIECE_BYTES = 4 * 2**20
"""Rows that go through the steps before an estimator together: as float64 they take up to 8 times as much."""


def begin_first_round(plan: Plan, workers: WorkerPool) -> Iterator[Accumulated] | None:
    """Begins the first reading of the training rows, which needs nothing that takes time to import.

    `Analyze` takes the result: one element, which nothing else keeps. None where nothing is to be read, or by
    TensorFlow.
    """
    features = rounds.analyzed_features(plan)
    schedule = rounds.schedule(features.values())
    units = plan.training_units.runs()
    first = [(features[need.feature], need.number) for need in (schedule[0] if schedule else ())]
    by_graph = any(isinstance(item, AnalyzerCall) and item.direct[number] is None for item, number in first)
    if not first or not units or by_graph:
        return None
    merge = functools.partial(rounds.merge, features)
    return results_of(deque([workers.reduce(merge, add_units, units, schedule[0], begin(features.values()))]))


def add_units(units: tuple[int, int], plan: Plan, needs: Sequence[Need], known: Known) -> Accumulated:
    """What the training rows of some units of analysis add in one round."""
    features = rounds.analyzed_features(plan)
    names = rounds.inputs_of_round(needs, features)
    sampled = rounds.takes_sample(needs)
    added = []
    for unit in range(*units):
        columns, spans, training = _read(unit, plan, names)
        hashes = plan.row_hashes(SHARD_ROWS, spans)[training] if sampled else None
        added.append(accumulate(needs, features, known, columns, hashes, of=plan.table.rows_in_all))
    result = functools.reduce(functools.partial(rounds.merge, features), added)
    counters.count("missing", sum(int(np.sum(result[need].missing)) for need in needs if need.what == "moments"))
    return result


def read_training_rows(unit: int, plan: Plan, *, names: Sequence[str]) -> Columns:
    """The training rows of one unit of analysis; there may be none."""
    return _read(unit, plan, names)[0]


def _read(unit: int, plan: Plan, names: Sequence[str]) -> tuple[Columns, list[Span], npt.NDArray[np.bool_]]:
    """The training rows of a unit, all of its spans, and which of their rows are training rows."""
    spans = plan.training_units.spans(unit)
    training = assign(plan, spans) == plan.training_index
    columns = read_columns(plan, spans, stage=STAGE, features=tuple(names))
    counters.advance(STAGE, rows=len(training), size=len(training) * plan.table.row_bytes)
    return columns if training.all() else take(columns, training), spans, training


def accumulate(
    needs: Sequence[Need],
    features: Mapping[str, Analyzed],
    known: Known,
    columns: Columns,
    hashes: U64 | None = None,
    *,
    of: int = 0,
) -> Accumulated:
    """What rows with all `columns` that `inputs_of_round` names add in one round; a DataError for unusable values.

    By the `hashes` of the rows, some of all the rows `of` a plan, a round that takes a sample chooses those in it.
    """
    result: Accumulated = {}
    chosen = None if hashes is None else choose(hashes, of=of)
    for need in needs:
        feature = features[need.feature]
        with rounds.naming(feature, need):
            if isinstance(feature, AnalyzerCall):
                shared = _shared(need, feature, features, result)
                result[need] = shared or _accumulate_asked(need, feature, known, columns)
            elif need.what == "sample":
                assert chosen is not None, "a round that takes a sample is given hashes"
                result[need] = sample_of(feature, columns, *chosen)
            else:
                result[need] = _accumulate(need, feature, known[need.feature], columns)
    return result


def sample_of(feature: ResolvedFeature, columns: Columns, rows: npt.NDArray[np.intp], hashes: U64) -> Sample:
    """The sample of a feature in some rows of a batch, which `choose` has found by their hashes."""
    values = columns[feature.name]
    if not feature.declares_missing and not isinstance(values, Ragged):
        return Sample.of(values, hashes, rows=rows)
    own = take({name: columns[name] for name in rounds.inputs_of([feature])}, rows)
    column = own[feature.name]
    return Sample.of(missing.marked(feature, own), hashes, column.lengths if isinstance(column, Ragged) else None)


def _shared(
    need: Need, asked: AnalyzerCall, features: Mapping[str, Analyzed], found: Accumulated
) -> tuple[Any, ...] | None:
    """What rows add to an analyzer, where the moments of the same values have been found for the statistics."""
    shared = []
    for subject, name in zip(asked.subjects, asked.direct[need.number] or (), strict=False):
        moments, feature = found.get(Need(feature=name, what="moments")), features.get(name)
        if moments is None or not isinstance(feature, ResolvedFeature) or feature.declares_missing:
            return None
        estimator, axes = subject.estimator, statistics_axes(feature.over, subject.shape)
        same = isinstance(estimator, ColumnMoments) and statistics_axes(estimator.over, subject.shape) == axes
        if not same or subject.dtype != feature.source_dtype:
            return None
        shared.append(moments)
    return tuple(shared)


def _accumulate_asked(need: Need, asked: AnalyzerCall, known: Known, columns: Columns) -> Any:
    reading = Pass(asked.subjects, need.number)
    states = known[asked.name].pending if need.number else reading.start()
    direct = asked.direct[need.number]
    if direct is not None:
        columns_read = zip(reading.read, (columns[name] for name in direct), strict=True)
        # Strings have a dtype for each length.
        read = [rows if own.dtype == "string" else rows.astype(own.dtype, copy=False) for own, rows in columns_read]
        return reading.accumulate(states, read)
    from pipelines.analyze.function_graph import values_of_pass  # with TensorFlow, which early workers have not

    learned = {before: known[f"{OF_FUNCTION}/{before}"].constants[0] for before in asked.after[need.number]}
    rows = max(PIECE_BYTES // sum(max(columns[name][:1].nbytes, 1) for name in asked.reads[need.number]), 1)
    count = len(columns[asked.reads[need.number][0]])
    pieces = (
        {name: columns[name][start : start + rows] for name in asked.reads[need.number]}
        for start in range(0, max(count, 1), rows)
    )
    added = (reading.accumulate(states, values) for values in values_of_pass(asked, need.number, learned, pieces))
    return functools.reduce(reading.merge, added)


def _accumulate(need: Need, feature: ResolvedFeature, fitted: Fitted, columns: Columns) -> Any:
    estimator = rounds.estimator_of(feature, need)
    state = fitted.pending if need.number else estimator.start()
    if need.step == 0:
        values: Any = missing.marked(feature, columns)
        if need.what == "groups":
            assert feature.by is not None
            values = values, keys_of(columns[feature.by])
        return estimator.accumulate(state, values)
    if feature.fills_integers:
        first, values = 1, missing.filled(feature, fitted.constants[0]["fill"], columns)
    else:
        first, values = 0, missing.marked(feature, columns)
    rows = max(PIECE_BYTES // max(values[:1].nbytes, 1), 1)
    pieces = (values[start : start + rows] for start in range(0, max(len(values), 1), rows))

    def added(raw: Any) -> Any:
        transformed = apply_steps(feature, range(first, need.step), fitted.constants, raw)
        check_domain(feature, raw, transformed)
        return estimator.accumulate(state, transformed)

    return functools.reduce(estimator.merge, map(added, pieces))
