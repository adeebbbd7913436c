"""How often the training rows are read, and what each round gathers of them.

Round 0 gathers the moments of every feature. A step that moments are enough for learns from them in closed form, also
after missing values were filled. Other steps have an estimator that reads the rows again, as the steps before it leave
them; each round serves all features at once. Everything here is a function of the plan, before any row is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pipelines.config.resolved import AnalyzerCall, ResolvedFeature
from pipelines.errors import DataError
from pipelines.plan.plan import Plan
from pipelines.reading import missing
from pipelines.statistics.estimators import Estimator
from pipelines.statistics.frequencies import Classes
from pipelines.statistics.groups import GroupMoments
from pipelines.statistics.passes import Pass
from pipelines.statistics.sample import Sample
from pipelines.statistics.summary import ColumnMoments

Accumulated = dict["Need", Any]
"""For each need of a round, what some rows have added up to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """What one round gathers for one feature."""

    feature: str  # its name, or that of an analyzer of a user's function
    what: Literal["moments", "groups", "classes", "sample", "step", "asked"]
    step: int = 0  # its number, of a need that is a step's
    number: int = 0  # of the estimator's pass


Analyzed = ResolvedFeature | AnalyzerCall
"""What something is learned of, or who learns: a feature, or one of the analyzers of a user's function."""


def analyzed_features(plan: Plan) -> dict[str, Analyzed]:
    """The features that something is learned of, and the analyzers of a user's function, by name."""
    found: dict[str, Analyzed] = {item.name: item for item in plan.config.features if item.analyzed}
    asked = () if plan.config.custom is None else plan.config.custom.asked
    return found | {item.name: item for item in asked}


def count_rounds(plan: Plan) -> int:
    """How many times the training rows are read."""
    return len(schedule(analyzed_features(plan).values()))


def schedule(features: Iterable[Analyzed]) -> tuple[tuple[Need, ...], ...]:
    """What each round gathers; every round reads the training rows once."""
    needs = [need for feature in features for need in _needs(feature)]
    count = max((number + 1 for number, _ in needs), default=0)
    return tuple(tuple(need for at, need in needs if at == number) for number in range(count))


def _needs(feature: Analyzed) -> list[tuple[int, Need]]:
    """The needs of one feature, each with its round."""
    if isinstance(feature, AnalyzerCall):
        passes = range(len(feature.reads))
        return [(feature.first + n, Need(feature=feature.name, what="asked", number=n)) for n in passes]
    needs = []
    if uses_moments(feature):
        needs.append((0, Need(feature=feature.name, what="moments")))
    if feature.by is not None:
        needs.append((0, Need(feature=feature.name, what="groups")))
    if feature.counts_classes:
        needs.append((0, Need(feature=feature.name, what="classes")))
    if feature.sampled:
        needs.append((0, Need(feature=feature.name, what="sample")))
    ready = 0  # the round in which all steps so far have learned
    for index in range(len(feature.steps)):
        estimator = step_estimator(feature, index)
        if estimator is None:
            ready = max(ready, int(from_moments(feature, index)))
            continue
        needs += [
            (ready + number, Need(feature=feature.name, what="step", step=index, number=number))
            for number in range(estimator.passes)
        ]
        ready += estimator.passes
    return needs


def uses_moments(feature: ResolvedFeature) -> bool:
    """Whether the moments of the raw values are gathered."""
    return feature.described or any(from_moments(feature, index) for index in range(len(feature.steps)))


def from_moments(feature: ResolvedFeature, index: int) -> bool:
    """Whether a step learns from the moments of the raw values, in closed form."""
    estimator = feature.steps[index].estimator(feature.values[index])
    return isinstance(estimator, ColumnMoments) and all(step.fills for step in feature.steps[:index])


def step_estimator(feature: ResolvedFeature, index: int) -> Estimator | None:
    """What reads the rows for a step; None where nothing has to."""
    value = feature.values[index]
    if index == 0:
        value = dataclasses.replace(value, dtype=missing.marked_dtype(feature))
    return None if from_moments(feature, index) else feature.steps[index].estimator(value)


def estimator_of(feature: Analyzed, need: Need) -> Any:
    """What gathers a need."""
    if isinstance(feature, AnalyzerCall):
        return Pass(feature.subjects, need.number)
    match need.what:
        case "moments":
            return ColumnMoments(over=feature.over)
        case "groups":
            return GroupMoments(over=feature.over, shape=feature.value_shape)
        case "classes":
            return Classes(shape=())
        case "sample":
            return Sample
        case "step":
            return step_estimator(feature, need.step)


def merge(features: Mapping[str, Analyzed], a: Accumulated, b: Accumulated) -> Accumulated:
    """What two sets of rows add together; exact, so that the order does not matter.

    Raises a DataError where it is more than an estimator holds: too many groups, or distinct values.
    """
    result = {}
    for need in a:
        feature = features[need.feature]
        with naming(feature, need):
            result[need] = estimator_of(feature, need).merge(a[need], b[need])
    return result


@contextlib.contextmanager
def naming(feature: Analyzed, need: Need) -> Iterator[None]:
    """Gives a ValueError of an estimator the names of the feature and the step, as a DataError."""
    try:
        yield
    except ValueError as error:
        step = (
            f"{feature.steps[need.step].key}: " if isinstance(feature, ResolvedFeature) and need.what == "step" else ""
        )
        raise DataError(f"feature {feature.name}: {step}{error}") from error


def inputs_of(features: Iterable[ResolvedFeature]) -> tuple[str, ...]:
    """The features that must be read for some: they themselves, their masks and their groups."""
    names = {name for f in features for name in (f.name, f.mask, f.by) if name is not None}
    return tuple(sorted(names))


def takes_sample(needs: Iterable[Need]) -> bool:
    """Whether a round takes a sample, by the hashes of its rows."""
    return any(need.what == "sample" for need in needs)


def inputs_of_round(needs: Sequence[Need], features: Mapping[str, Analyzed]) -> tuple[str, ...]:
    """The features that are read in a round."""
    own = [(features[need.feature], need.number) for need in needs]
    asked = {name for item, number in own if isinstance(item, AnalyzerCall) for name in item.reads[number]}
    return tuple(sorted(asked.union(inputs_of(item for item, _ in own if isinstance(item, ResolvedFeature)))))
