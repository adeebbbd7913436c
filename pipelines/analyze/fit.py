"""What the steps learn: after each round, the constants that follow from what the training rows have added up to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipelines.analyze.rounds import Accumulated, Analyzed, Need, estimator_of, from_moments, step_estimator
from pipelines.config.resolved import AnalyzerCall, ResolvedFeature
from pipelines.errors import DataError
from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.groups import with_overall
from pipelines.statistics.sample import Sample
from pipelines.statistics.summary import Moments, Statistics, impute, summarize
from pipelines.steps.step import Arrays, Constants

KEYS = "keys"
"""The constant that holds the groups, ascending."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """What is known of one feature so far, or what an analyzer of a user's function has learned."""

    moments: Moments | None = None  # of its values
    groups: Arrays | None = None  # the statistics of each group, with the groups' keys, until all steps have learned
    classes: Distinct | None = None  # how often each class of a label occurs; None also where there are too many
    sample: Sample | None = None
    constants: tuple[Constants, ...] = ()  # those of the steps that have learned, in order
    pending: Any = None  # the state of an estimator between its passes


Known = dict[str, Fitted]
"""Feature → what is known of it."""


def begin(features: Iterable[Analyzed]) -> Known:
    """What is known before the first round."""
    return {feature.name: _advance(feature, Fitted()) for feature in features}


def for_rows(known: Known) -> Known:
    """What the next round needs to know."""
    return {name: dataclasses.replace(fitted, sample=None) for name, fitted in known.items()}


def update(features: Mapping[str, Analyzed], known: Known, accumulated: Accumulated) -> Known:
    """What is known after a round, in which all rows have added something for each need.

    That is taken out of `accumulated`: a runner holds on to what it hands over, and of a million groups that is 100 MB.

    Raises:
        DataError: If a step cannot learn from these rows, because there are none, all values are missing, or their
            statistics overflow.
    """
    result = dict(known)
    for need in list(accumulated):
        own = result[need.feature]
        result[need.feature] = _finish_pass(features[need.feature], own, need, accumulated.pop(need))
    return {name: _advance(features[name], fitted) for name, fitted in result.items()}


def _finish_pass(feature: Analyzed, fitted: Fitted, need: Need, accumulator: Any) -> Fitted:
    estimator = estimator_of(feature, need)
    if need.what == "groups":
        return dataclasses.replace(fitted, groups=estimator.result(accumulator))
    if need.what not in ("step", "asked"):
        return dataclasses.replace(fitted, **{need.what: accumulator})
    state = estimator.update(fitted.pending if need.number else estimator.start(), accumulator)
    if need.number + 1 < estimator.passes:
        return dataclasses.replace(fitted, pending=state)
    result = estimator.result(state)
    if isinstance(feature, AnalyzerCall):
        return Fitted(constants=(result,))
    return _add_constants(feature, dataclasses.replace(fitted, pending=None), result)


def _advance(feature: Analyzed, fitted: Fitted) -> Fitted:
    """Lets the next steps learn that can without another round."""
    if isinstance(feature, AnalyzerCall):
        return fitted
    while (index := len(fitted.constants)) < len(feature.steps) and step_estimator(feature, index) is None:
        if not from_moments(feature, index):
            fitted = _add_constants(feature, fitted, {})
        elif fitted.moments is None or (feature.by is not None and fitted.groups is None):
            return fitted
        else:
            fitted = _add_constants(feature, fitted, _statistics(fitted).arrays())
    # Of a million groups they are as large as what was learned of them.
    return fitted if index < len(feature.steps) else dataclasses.replace(fitted, groups=None)


def _statistics(fitted: Fitted) -> Statistics:
    """The statistics of the values, or of each group of them, as the next step takes them: after fills alone."""
    assert fitted.moments is not None
    statistics = summarize(fitted.moments)
    if fitted.groups is not None:
        statistics = with_overall(fitted.groups, statistics)
    for constants in fitted.constants:
        statistics = impute(statistics, constants["fill"].reshape(statistics.mean.shape))
    return statistics


def _add_constants(feature: ResolvedFeature, fitted: Fitted, result: Arrays) -> Fitted:
    """What is known with the constants of the next step, which learns from the result of its estimator."""
    index = len(fitted.constants)
    step = feature.steps[index]
    try:
        constants = step.fit(result, feature.values[index])
    except ValueError as error:
        raise DataError(f"feature {feature.name}: {step.key}: {error}") from error
    floats = [array for array in constants.values() if array.dtype.kind == "f"]
    if not all(np.isfinite(array).all() for array in floats):
        where = _place_without_values(feature, fitted)
        if any(np.isnan(array).any() for array in floats):
            raise DataError(
                f"feature {feature.name}{where}: expected a value in the training rows; found none "
                f"(all are missing; `impute: {{constant: 0}}` would fill them)"
            )
        raise DataError(f"feature {feature.name}: expected statistics within float64 for {step.key}; they overflow")
    if fitted.groups is not None and from_moments(feature, index):
        constants[KEYS] = fitted.groups[KEYS]
    return dataclasses.replace(fitted, constants=(*fitted.constants, constants))


def _place_without_values(feature: ResolvedFeature, fitted: Fitted) -> str:
    """Which statistic is the first without a value, in words; raises a DataError if there were no rows at all."""
    if fitted.moments is None:
        return ""
    if not (fitted.moments.count + fitted.moments.missing).any():
        raise DataError(f"feature {feature.name}: expected training rows; found none")
    absent = np.argwhere(fitted.moments.count == 0)
    if not len(absent) or not fitted.moments.count.ndim:
        return ""
    over = feature.over if isinstance(feature.over, str) else f"over {list(feature.over)}"
    return f", {over} {absent[0].tolist()}"
