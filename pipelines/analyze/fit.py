"""What the transform learns from the training rows: which passes over them it takes, and what each of them adds.

Round 0 gathers the moments of every feature. A step that moments are enough for learns from them in closed form, also
after missing values were filled. Other steps have an estimator that reads the rows again, as the steps before it leave
them; each round serves all features at once. Everything here is a function of values, without Beam.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.config.resolved import ResolvedFeature
from pipelines.errors import DataError
from pipelines.reading import missing
from pipelines.reading.batches import Columns
from pipelines.statistics.estimators import Estimator
from pipelines.statistics.frequencies import Frequencies
from pipelines.statistics.groups import GroupMoments
from pipelines.statistics.summary import Moments, Statistics, impute, merge, moments, summarize
from pipelines.steps.encoding import as_keys
from pipelines.steps.imputation import Fill, fills_integers
from pipelines.steps.scaling import Log1p
from pipelines.steps.step import Constants, MomentStep, PassStep, Step, accepted

PIECE_BYTES = 4 * 2**20
"""Rows that go through the steps before an estimator together: as float64 they take up to 8 times as much."""

KEYS = "keys"
"""The constant that holds the groups, ascending."""

Accumulated = dict["Need", Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """What one round gathers for one feature.

    Attributes:
        feature: The feature's name.
        what: Its moments, the moments of each group, how often each class occurs, or what a step's estimator counts.
        step: The number of the step, where it is one's.
        number: The number of the estimator's pass.
    """

    feature: str
    what: Literal["moments", "groups", "classes", "step"]
    step: int = 0
    number: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned:
    """What is known of one feature so far.

    Attributes:
        moments: The moments of its values, or None.
        groups: The statistics of each group, with the groups' keys, or None.
        classes: The classes of a label and how often each occurs, or None; also where there are too many of them.
        constants: The constants of the steps that have learned, in order.
        pending: The state of the estimator that is between its passes, or None.
    """

    moments: Moments | None = None
    groups: Mapping[str, npt.NDArray[Any]] | None = None
    classes: Mapping[str, npt.NDArray[Any]] | None = None
    constants: tuple[Constants, ...] = ()
    pending: Any = None


Knowledge = dict[str, Learned]
"""Feature → what is known of it."""


@dataclasses.dataclass(frozen=True)
class MomentsOf:
    """The moments of a feature's values as an estimator."""

    feature: ResolvedFeature
    passes: int = 1

    def start(self) -> None:
        """Nothing is to be known before."""

    def accumulate(self, state: None, values: npt.NDArray[Any]) -> Moments:
        """Of one unit."""
        return moments(values, self.feature.over)

    def merge(self, a: Moments, b: Moments) -> Moments:
        """Of two units."""
        return merge(a, b)

    def update(self, state: None, accumulator: Moments) -> Moments:
        """The state is the moments."""
        return accumulator

    def result(self, state: Moments) -> dict[str, npt.NDArray[Any]]:
        """The statistics by name."""
        return summarize(state).arrays()


@dataclasses.dataclass(frozen=True)
class ClassesOf:
    """How often each class of a label occurs; None where there are more than `Frequencies` counts."""

    passes: int = 1

    def start(self) -> None:
        """Nothing is to be known before."""

    def accumulate(self, state: None, values: npt.NDArray[Any]) -> Any:
        """Of one unit."""
        return self._unless_too_many(lambda counts: counts.accumulate(counts.start(), values))

    def merge(self, a: Any, b: Any) -> Any:
        """Of two units."""
        return None if a is None or b is None else self._unless_too_many(lambda counts: counts.merge(a, b))

    def update(self, state: None, accumulator: Any) -> Any:
        """The state is the counts."""
        return accumulator

    def result(self, state: Any) -> dict[str, npt.NDArray[Any]] | None:
        """The values, ascending, and the counts."""
        return None if state is None else Frequencies(shape=(), over="all").result(state)

    def _unless_too_many(self, count: Callable[[Frequencies], Any]) -> Any:
        try:
            return count(Frequencies(shape=(), over="all"))
        except ValueError:
            return None


def schedule(features: Sequence[ResolvedFeature]) -> tuple[tuple[Need, ...], ...]:
    """What each round gathers; every round reads the training rows once."""
    plans = [_needs(feature) for feature in features]
    count = max((number + 1 for plan in plans for number, _ in plan), default=0)
    return tuple(tuple(need for plan in plans for at, need in plan if at == number) for number in range(count))


def _needs(feature: ResolvedFeature) -> list[tuple[int, Need]]:
    """The needs of one feature, each with its round."""
    needs = []
    if uses_moments(feature):
        needs.append((0, Need(feature=feature.name, what="moments")))
    if feature.by is not None:
        needs.append((0, Need(feature=feature.name, what="groups")))
    if feature.counts_classes:
        needs.append((0, Need(feature=feature.name, what="classes")))
    ready = 0  # the round in which all steps so far have learned
    for index, step in enumerate(feature.steps):
        estimator = _estimator(feature, index)
        if estimator is not None:
            needs += [
                (ready + number, Need(feature=feature.name, what="step", step=index, number=number))
                for number in range(estimator.passes)
            ]
            ready += estimator.passes
        elif isinstance(step, MomentStep):
            ready = max(ready, 1)
    return needs


def uses_moments(feature: ResolvedFeature) -> bool:
    """Whether the moments of the raw values are gathered."""
    return feature.described or any(_from_moments(feature, index) for index in range(len(feature.steps)))


def _from_moments(feature: ResolvedFeature, index: int) -> bool:
    """Whether a step learns from the moments of the raw values, in closed form."""
    before = feature.steps[:index]
    return isinstance(feature.steps[index], MomentStep) and all(isinstance(step, Fill) for step in before)


def _estimator(feature: ResolvedFeature, index: int) -> Estimator | None:
    """What reads the rows for a step; None where nothing has to."""
    step, value = feature.steps[index], feature.values[index]
    if _from_moments(feature, index):
        return None
    if isinstance(step, MomentStep):
        return MomentsOf(feature)
    if not isinstance(step, PassStep):
        return None
    if index == 0:
        value = dataclasses.replace(value, dtype=missing.marked_dtype(feature))
    return step.estimator(value)


def _estimator_of(feature: ResolvedFeature, need: Need) -> Any:
    if need.what == "moments":
        return MomentsOf(feature)
    if need.what == "groups":
        return GroupMoments(over=feature.over, shape=feature.value_shape)
    if need.what == "classes":
        return ClassesOf()
    return _estimator(feature, need.step)


def inputs_of(features: Iterable[ResolvedFeature]) -> tuple[str, ...]:
    """The features that must be read for some: they themselves, their masks and their groups."""
    names = {name for f in features for name in (f.name, f.mask, f.by) if name is not None}
    return tuple(sorted(names))


def accumulate(
    needs: Sequence[Need], features: Mapping[str, ResolvedFeature], known: Knowledge, columns: Columns
) -> Accumulated:
    """What some rows add in one round.

    Args:
        needs: What the round gathers.
        features: The features by name.
        known: What is known after the rounds before.
        columns: Rows of all that `inputs_of` names.

    Raises:
        DataError: If a value cannot be used.
    """
    result: Accumulated = {}
    for need in needs:
        feature, learned = features[need.feature], known[need.feature]
        estimator = _estimator_of(feature, need)
        state = learned.pending if need.number else estimator.start()
        try:
            result[need] = _accumulate(need, feature, learned, estimator, state, columns)
        except ValueError as error:
            raise DataError(f"feature {feature.name}: {_step_name(feature, need)}{error}") from error
    return result


def _accumulate(
    need: Need, feature: ResolvedFeature, learned: Learned, estimator: Any, state: Any, columns: Columns
) -> Any:
    if need.step == 0:
        values = missing.marked(feature, columns)
        if need.what == "groups":
            assert feature.by is not None
            return estimator.accumulate(state, (values, as_keys(columns[feature.by])))
        return estimator.accumulate(state, values)
    first = 1 if fills_integers(feature.impute, feature.source_dtype) else 0
    if first:
        values = missing.filled(feature, learned.constants[0]["fill"], columns)
    else:
        values = missing.marked(feature, columns)
    rows = max(PIECE_BYTES // max(values[:1].nbytes, 1), 1)
    total = None
    for start in range(0, max(len(values), 1), rows):
        raw = values[start : start + rows]
        piece = apply_steps(feature, range(first, need.step), learned.constants, raw)
        check_domain(feature, raw, piece)
        added = estimator.accumulate(state, piece)
        total = added if total is None else estimator.merge(total, added)
    return total


def apply_steps(
    feature: ResolvedFeature, numbers: Iterable[int], constants: Sequence[Constants], values: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """What some steps of a feature make of values, by the operations that the exported graph has."""
    import tensorflow as tf

    with tf.device("/cpu:0"):
        x = tf.constant(values)
        for number in numbers:
            step = feature.steps[number]
            x = step.apply(accepted(step, x), {name: tf.constant(constants[number][name]) for name in step.learns})
        return np.asarray(x.numpy())


def merge_accumulated(features: Mapping[str, ResolvedFeature], a: Accumulated, b: Accumulated) -> Accumulated:
    """What two sets of rows add together."""
    return {need: _estimator_of(features[need.feature], need).merge(a[need], b[need]) for need in a}


def update(features: Mapping[str, ResolvedFeature], known: Knowledge, accumulated: Accumulated) -> Knowledge:
    """What is known after a round.

    Args:
        features: The features by name.
        known: What was known before.
        accumulated: What all rows have added, for each need of the round.

    Raises:
        DataError: If a step cannot learn from these rows, because there are none, all values are missing, or their
            statistics overflow.
    """
    result = dict(known)
    for need, accumulator in accumulated.items():
        result[need.feature] = _take_in(features[need.feature], result[need.feature], need, accumulator)
    return {name: _advance(features[name], learned) for name, learned in result.items()}


def _take_in(feature: ResolvedFeature, learned: Learned, need: Need, accumulator: Any) -> Learned:
    if need.what == "moments":
        return dataclasses.replace(learned, moments=accumulator)
    estimator = _estimator_of(feature, need)
    state = estimator.update(learned.pending if need.number else estimator.start(), accumulator)
    if need.number + 1 < estimator.passes:
        return dataclasses.replace(learned, pending=state)
    result = estimator.result(state)
    if need.what == "groups":
        return dataclasses.replace(learned, groups=result)
    if need.what == "classes":
        return dataclasses.replace(learned, classes=result)
    learned = dataclasses.replace(learned, pending=None)
    step, value = feature.steps[need.step], feature.values[need.step]
    if isinstance(step, MomentStep):
        constants = step.learn(Statistics(**result), value)
        constants = {name: value.broadcast(array) for name, array in constants.items()}
    else:
        assert isinstance(step, PassStep)
        try:
            constants = step.learn(result, value)
        except ValueError as error:
            raise DataError(f"feature {feature.name}: {_step_name(feature, need)}{error}") from error
    _check(feature, step, constants, learned)
    return dataclasses.replace(learned, constants=(*learned.constants, constants))


def _advance(feature: ResolvedFeature, learned: Learned) -> Learned:
    """Lets the next steps learn that can without another round."""
    while len(learned.constants) < len(feature.steps):
        index = len(learned.constants)
        step, value = feature.steps[index], feature.values[index]
        if _estimator(feature, index) is not None:
            return learned
        if isinstance(step, MomentStep):
            if learned.moments is None or (feature.by is not None and learned.groups is None):
                return learned
            constants = _learn_from_moments(feature, step, index, learned)
        elif isinstance(step, PassStep):
            constants = step.learn({}, value)
        else:
            constants = {}
        learned = dataclasses.replace(learned, constants=(*learned.constants, constants))
    return learned


def _step_name(feature: ResolvedFeature, need: Need) -> str:
    return f"{feature.steps[need.step].key}: " if need.what == "step" else ""


def _learn_from_moments(feature: ResolvedFeature, step: MomentStep, index: int, learned: Learned) -> Constants:
    assert learned.moments is not None
    value, statistics = feature.values[index], summarize(learned.moments)
    if learned.groups is not None:
        statistics = with_overall(learned.groups, statistics)
    for before in learned.constants:  # only fills are before a step that learns from moments
        statistics = impute(statistics, before["fill"].reshape(statistics.mean.shape))
    groups = statistics.mean.ndim - len(feature.statistics_shape)
    constants = {name: value.broadcast(array, before=groups) for name, array in step.learn(statistics, value).items()}
    _check(feature, step, constants, learned)
    return constants if learned.groups is None else {**constants, KEYS: learned.groups[KEYS]}


def with_overall(groups: Mapping[str, npt.NDArray[Any]], overall: Statistics) -> Statistics:
    """The statistics of groups, those of all rows in the last place and wherever a group has no value."""
    rows = overall.arrays()
    empty = groups["count"] == 0
    return Statistics(
        **{
            name: np.concatenate([np.where(empty, rows[name], groups[name]), rows[name][None]])
            for name in ("count", "missing", "min", "max", "mean", "std")
        }
    )


def _check(feature: ResolvedFeature, step: Step, constants: Constants, learned: Learned) -> None:
    """Checks that what a step has learned are numbers.

    Raises:
        DataError: If there were no rows or no values to learn from, or they overflow.
    """
    floats = [array for array in constants.values() if array.dtype.kind == "f"]
    if all(np.isfinite(array).all() for array in floats):
        return
    where = ""
    if learned.moments is not None:
        statistics = summarize(learned.moments)
        if not (statistics.count + statistics.missing).any():
            raise DataError(f"feature {feature.name}: expected training rows; found none")
        absent = np.argwhere(statistics.count == 0)
        if len(absent) and statistics.count.ndim:
            over = feature.over if isinstance(feature.over, str) else f"over {list(feature.over)}"
            where = f", {over} {absent[0].tolist()}"
    if any(np.isnan(array).any() for array in floats):
        raise DataError(
            f"feature {feature.name}{where}: expected a value in the training rows; found none "
            f"(all are missing; `impute: {{constant: 0}}` would fill them)"
        )
    raise DataError(f"feature {feature.name}: expected statistics within float64 for {step.key}; they overflow")


def begin(features: Iterable[ResolvedFeature]) -> Knowledge:
    """What is known before the first round."""
    return {feature.name: _advance(feature, Learned()) for feature in features}


def check_domain(feature: ResolvedFeature, raw: npt.NDArray[Any], transformed: npt.NDArray[Any]) -> None:
    """Looks for values that a step has no number for.

    Args:
        feature: The feature.
        raw: Its values with NaN for what is missing, as `missing.marked` gives them.
        transformed: What the steps made of them: where a step other than the first had no number, an infinity.

    Raises:
        DataError: If there is one.
    """
    if not has_domain(feature):
        return
    # Steps after it may make something else of the infinity.
    lost = raw <= -1 if isinstance(feature.normalize[0], Log1p) else np.zeros(raw.shape, np.bool_)
    if lost.any():
        raise DataError(f"feature {feature.name}: expected values above -1 for log1p; found {raw[lost][0]}")
    if transformed.dtype.kind == "f" and np.isinf(transformed).any():
        raise DataError(f"feature {feature.name}: expected values above -1 for log1p; found others")


def has_domain(feature: ResolvedFeature) -> bool:
    """Whether a step has no number for some values."""
    return any(isinstance(step, Log1p) for step in feature.steps)
