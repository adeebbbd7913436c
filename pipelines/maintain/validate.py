"""Validation of arrays: their schema, ranges, missing values and classes, between splits and against a data set."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.spec import FeatureSpec
from pipelines.config.schema import DatasetConfig, parse_config
from pipelines.errors import ConfigError, Problem
from pipelines.maintain.reuse import Existing, combine
from pipelines.output.directory import read_statistics
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.results import Block, Result, Table, count_of, list_skipped
from pipelines.sources.arrays import Arrays
from pipelines.sources.provenance import schema_differences, source_settings
from pipelines.sources.table import SourceTable, scan
from pipelines.statistics.drift import CHANCE, Classes, compare, compare_classes
from pipelines.statistics.summary import Statistics, summarize

SHOWN_CLASSES = 10

_MEASURES = {
    "drift": "mean:",
    "spread": "std:",
    "missing": "missing:",
    "outside": "outside:",
    "new_classes": "new:",
    "class_drift": "classes:",
}
"""What each kind of measure is called in a table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What is still no problem. Differences that come by chance are taken off before.

    A negative one is a ConfigError.

    Attributes:
        drift: The shift of a mean, in deviations of the reference.
        spread: The factor between two deviations.
        missing: The difference of two rates of missing values.
        outside: The share of values outside the range of the data set's training rows.
        new_classes: How many classes the reference does not have.
        class_drift: The largest difference of a class's shares.
    """

    drift: float = 0.1
    spread: float = 1.25
    missing: float = 0.05
    outside: float = 0.01
    new_classes: int = 0
    class_drift: float = 0.1

    def __post_init__(self) -> None:
        for name, limit in dataclasses.asdict(self).items():
            if not limit >= 0:  # which NaN is not either; nothing would ever pass it
                raise ConfigError(f"max_{name}: expected a number that is not negative; found {limit}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing that was measured.

    Attributes:
        split: The split.
        feature: The feature.
        reference: What it was compared with: a split, or the root of a data set.
        kind: One of the fields of `Thresholds`.
        value: What was found.
        certain: What is left of it without what comes by chance.
        limit: The threshold.
        detail: What helps to understand it, such as the new classes.
    """

    split: str
    feature: str
    reference: str
    kind: str
    value: float
    certain: float
    limit: float
    detail: str = ""

    @property
    def exceeded(self) -> bool:
        """Whether the threshold is passed."""
        return self.certain > self.limit

    def __str__(self) -> str:
        certain = "" if self.certain == self.value else f", {self.certain:.3g} of it not by chance"
        return (
            f"{self.feature}, {self.split} against {self.reference}: {self.kind} expected at most {self.limit:g}; "
            f"found {self.value:.4g}{certain}{f' ({self.detail})' if self.detail else ''}"
        )

    def to_json(self) -> dict[str, Any]:
        """This as JSON values; null where a number is infinite."""
        value = dataclasses.asdict(self) | {"exceeded": self.exceeded}
        return {key: None if isinstance(own, float) and math.isinf(own) else own for key, own in value.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation(Result):
    """What a validation has found.

    Attributes:
        rows: How many rows each split has.
        schema: How the features differ from those of the data set.
        skipped: The files that were left out.
        measures: All that was measured.
    """

    rows: Mapping[str, int]
    schema: tuple[Problem, ...]
    skipped: tuple[Problem, ...]
    measures: tuple[Measure, ...] = dataclasses.field(repr=False)

    @property
    def problems(self) -> int:
        """How many problems there are."""
        return len(self.schema) + sum(measure.exceeded for measure in self.measures)

    def to_json(self) -> dict[str, Any]:
        """The report for machines, as JSON values."""
        return {
            "problems": self.problems,
            "rows": dict(self.rows),
            "schema": [dataclasses.asdict(problem) for problem in self.schema],
            "skipped": [dataclasses.asdict(problem) for problem in self.skipped],
            "measures": [measure.to_json() for measure in self.measures],
        }

    def blocks(self) -> list[Block]:
        """What was measured, each split and reference on a line; `!` marks what is too much."""
        said: list[Block] = [*map(str, self.schema), *list_skipped(map(str, self.skipped))]
        said.append("\n" + ", ".join(f"{split} {rows:,} rows" for split, rows in self.rows.items()))
        lines: dict[tuple[str, str, str], dict[str, str]] = {}
        for measure in self.measures:
            line = lines.setdefault((measure.feature, measure.split, measure.reference), {})
            line[measure.kind] = f"{'!' if measure.exceeded else ''}{measure.value:.3g}"
        if lines:
            kinds = [kind for kind in _MEASURES if any(kind in line for line in lines.values())]
            columns = ("feature", "split", "against", *(_MEASURES[kind] for kind in kinds))
            rows = ((*key[:2], key[2].rpartition("/")[2], *map(line.get, kinds)) for key, line in lines.items())
            said += ["", Table(columns=columns, rows=tuple(rows))]
        exceeded = [str(measure) for measure in self.measures if measure.exceeded]
        problems = count_of(self.problems, "problem") if self.problems else "no problem"
        return [*said, "", *exceeded, f"{sum(self.rows.values()):,} rows: {problems}"]

    def table(self) -> Table:
        """All measures."""
        columns = ("feature", "split", "reference", "kind", "value:", "certain:", "limit:", "exceeded", "detail")
        rows = (tuple(getattr(measure, column.rstrip(":")) for column in columns) for measure in self.measures)
        return Table(columns=columns, rows=tuple(rows))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationPlan:
    """What is validated."""

    plan: Plan  # the sources with their splits
    schema: tuple[Problem, ...] = ()  # how the features differ from those of the data set
    # Those of the data set, of the features that do not differ; empty without one.
    statistics: Mapping[str, Statistics] = dataclasses.field(default_factory=dict)
    classes: Mapping[str, Classes] = dataclasses.field(default_factory=dict)
    against: str = ""  # the root of the data set, or ""


def plan_validation(source: str | Arrays, config: DatasetConfig, existing: Existing | None = None) -> ValidationPlan:
    """Finds what is to be validated; errors are those of `validate`.

    With a data set, the configuration says only where files are, splits and the like.
    """
    config = config.model_copy(update={"preprocessing_fn": None})
    if existing is None:
        table = scan(source, config)
        return ValidationPlan(plan=make_plan(table, resolve_config(config, table, learns=False)))
    combined = combine(existing, config) | {"preprocessing_fn": None}
    table = scan(source, parse_config(source_settings(combined)))
    problems = schema_differences(existing.manifest.sources, table, other=existing.root)
    same = _comparable(existing.manifest.sources, table, problems, combined["features"])
    there = {feature.name for feature in table.features}
    features = {name: said for name, said in source_settings(combined)["features"].items() if name in there}
    features |= {name: combined["features"][name] for name in same}
    resolved = resolve_config(parse_config({**combined, "features": features}), table, learns=False)
    recorded = read_statistics(existing.root, existing.manifest)
    return ValidationPlan(
        plan=make_plan(table, resolved),
        schema=tuple(problems),
        statistics={name: own for name, own in recorded.statistics.items() if name in same},
        classes={name: (own.values, own.counts) for name, own in recorded.classes.items() if name in same},
        against=existing.root,
    )


def _comparable(
    sources: Iterable[FeatureSpec], table: SourceTable, problems: Iterable[Problem], said: Mapping[str, Any]
) -> list[str]:
    """The features that are as those of the data set, and so are those that they name."""
    other = {problem.feature for problem in problems}
    same = {spec.name for spec in sources} - other
    return sorted(name for name in same if not {said[name].get("mask"), said[name].get("by")} & other)


def measure(planned: ValidationPlan, profile: Any, thresholds: Thresholds) -> Iterator[Measure]:
    """Compares every split, of which there is a `Profile`, with the training split and with the data set."""
    training = planned.plan.training_split
    statistics = {key: summarize(own.moments) for key, own in profile.features.items() if own.moments is not None}
    classes = {key: (own.classes.values, own.classes.counts) for key, own in profile.features.items() if own.classes}
    for (split, name), own in profile.features.items():
        references = []
        if split != training and (training, name) in profile.features:
            references.append((training, statistics.get((training, name)), classes.get((training, name))))
        if planned.against:
            references.append((planned.against, planned.statistics.get(name), planned.classes.get(name)))
        for label, old, old_classes in references:
            new, new_classes = statistics.get((split, name)), classes.get((split, name))
            apart, detail = dict[str, tuple[float, float]](), ""
            if old_classes is not None and new_classes is not None:
                apart, unknown = classes_apart(old_classes, new_classes)
                detail = _some_classes(unknown)
            elif old is not None and new is not None:
                apart = numbers_apart(old, new)
            if old is not None and new is not None and label == planned.against:
                apart["outside"] = _outside(old, new, own.outside)
            for kind, (value, certain) in apart.items():
                yield Measure(
                    split=split,
                    feature=name,
                    reference=label,
                    kind=kind,
                    value=float(value),
                    certain=float(certain),
                    limit=float(getattr(thresholds, kind)),
                    detail=detail if kind == "new_classes" else "",
                )


def numbers_apart(old: Statistics, new: Statistics) -> dict[str, tuple[float, float]]:
    """How far values are from those of a reference, by kinds of measure, and how far without what comes by chance."""
    value, certain = (compare(old, new, errors=errors) for errors in (0.0, CHANCE))
    fields = {"drift": "shift", "spread": "spread", "missing": "missing"}
    return {kind: (getattr(value, field), getattr(certain, field)) for kind, field in fields.items()}


def classes_apart(old: Classes, new: Classes) -> tuple[dict[str, tuple[float, float]], npt.NDArray[Any]]:
    """The same of classes; and those that the reference does not have."""
    value, certain = (compare_classes(old, new, errors=errors) for errors in (0.0, CHANCE))
    count = len(value.new)
    return {"new_classes": (count, count), "class_drift": (value.distance, certain.distance)}, value.new


def _some_classes(classes: npt.NDArray[Any]) -> str:
    names = classes[:SHOWN_CLASSES].tolist()
    shown = ", ".join(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names)
    return shown + (", …" if len(classes) > SHOWN_CLASSES else "")


def _outside(old: Statistics, new: Statistics, outside: int) -> tuple[float, float]:
    """The share of values outside the range of others, of which two in so many and one are expected to be."""
    count = max(int(new.count.sum()), 1)
    share = outside / count
    expected = min(2 / (float(np.min(old.count, initial=1 << 62)) + 1), 1.0)
    chance = expected + CHANCE * math.sqrt(expected * (1 - expected) / count)
    return share, max(share - chance, 0.0)
