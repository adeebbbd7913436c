"""A profile of rows: for each split and feature the moments of the values, and how often each class occurs."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from loaders.order.hashing import SHARD_ROWS
from pipelines import counters
from pipelines.analyze.accumulate import sample_of
from pipelines.analyze.rounds import inputs_of, uses_moments
from pipelines.config.resolved import ResolvedFeature
from pipelines.errors import WorkerError
from pipelines.plan.plan import Plan
from pipelines.reading import missing
from pipelines.reading.batches import Columns, take
from pipelines.reading.columns import read_columns
from pipelines.reading.split_assignment import splits_of
from pipelines.runners.combine import Merge
from pipelines.runners.distribute import Distribute
from pipelines.runners.failures import Recorded
from pipelines.runners.handoff import Handoff
from pipelines.runners.pool import Workers
from pipelines.statistics.frequencies import Classes, Distinct
from pipelines.statistics.sample import Sample, choose
from pipelines.statistics.summary import Moments, as_columns, moments
from pipelines.statistics.summary import merge as merge_moments
from pipelines.storage.checksummed import read_checked, write_checked
from pipelines.storage.restricted_pickle import load_statistics

STAGE = "profile"
MAX_CLASSES = 65_536

Bounds = Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
"""Feature → the least and the greatest value of each statistic."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureProfile:
    """What is known of one feature's values in some rows."""

    moments: Moments | None  # None for what has none: text, complex numbers, ids
    outside: int = 0  # how many lie outside bounds that were given
    classes: Distinct | None = None  # of a label, up to `MAX_CLASSES`
    sample: Sample | None = None  # where one was wanted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """What is known of some rows."""

    rows: Mapping[str, int]  # of each split
    features: Mapping[tuple[str, str], FeatureProfile]  # by split and feature


def profiled(plan: Plan, *, sampled: bool = False) -> dict[str, ResolvedFeature]:
    """The features that have a profile; with those of which there is a sample."""
    return {f.name: f for f in plan.config.features if uses_moments(f) or f.has_classes or (sampled and f.sampled)}


def profile_columns(features: Iterable[ResolvedFeature], columns: Columns, bounds: Bounds) -> dict[str, FeatureProfile]:
    """The profile of each feature in rows of one split; `columns` has all that `inputs_of` names.

    Values outside `bounds` are counted; none are where a feature has no bounds.
    """
    found = {}
    for feature in features:
        values, counter, outside = missing.marked(feature, columns), class_counter(feature), 0
        if feature.name in bounds:  # NaN is neither below the least nor above the greatest
            low, high = (bound.reshape(-1) for bound in bounds[feature.name])
            by_statistic = as_columns(values, feature.over)
            outside = int(np.count_nonzero(by_statistic < low) + np.count_nonzero(by_statistic > high))
        found[feature.name] = FeatureProfile(
            moments=moments(values, feature.over) if uses_moments(feature) else None,
            outside=outside,
            classes=counter.accumulate(counter.start(), values) if feature.has_classes else None,
        )
    return found


def class_counter(feature: ResolvedFeature) -> Classes:
    """What counts the classes of a feature; None for more than `MAX_CLASSES`."""
    return Classes(shape=feature.value_shape, limit=MAX_CLASSES)


def _merge_features(feature: ResolvedFeature, a: FeatureProfile, b: FeatureProfile) -> FeatureProfile:
    return FeatureProfile(
        moments=merge_moments(a.moments, b.moments) if a.moments is not None and b.moments is not None else None,
        outside=a.outside + b.outside,
        classes=class_counter(feature).merge(a.classes, b.classes),
        sample=None if a.sample is None or b.sample is None else a.sample.merge(b.sample),
    )


def merge_profiles(features: Mapping[str, ResolvedFeature], a: Profile, b: Profile) -> Profile:
    """The profile of two sets of rows together; exact, so that the order does not matter."""
    found = dict(a.features)
    for key, profile in b.features.items():
        found[key] = _merge_features(features[key[1]], found[key], profile) if key in found else profile
    splits = dict.fromkeys([*a.rows, *b.rows])
    return Profile(rows={split: a.rows.get(split, 0) + b.rows.get(split, 0) for split in splits}, features=found)


def profile_units(
    units: tuple[int, int], plan: Plan, bounds: Bounds, only: Sequence[str] | None, sampled: bool = False
) -> Profile:
    """The profile of units `[first, stop)`, of all splits or `only` some; `bounds` are as in `profile_columns`."""
    features = profiled(plan, sampled=sampled)
    names = inputs_of(features.values())
    total = Profile(rows={}, features={})
    for unit in range(*units):
        spans = plan.units.spans(unit)
        numbers = splits_of(plan, spans)
        columns = read_columns(plan, spans, stage=STAGE, features=names)
        counters.advance(STAGE, rows=len(numbers), size=len(numbers) * plan.table.row_bytes)
        for number, split in enumerate(plan.splits):
            rows = np.flatnonzero(numbers == number)
            if not len(rows) or (only is not None and split not in only):
                continue
            own = columns if len(rows) == len(numbers) else take(columns, rows)
            found = profile_columns(features.values(), own, bounds)
            if sampled:
                chosen = choose(plan.row_hashes(SHARD_ROWS, spans)[rows], of=plan.table.rows_in_all)
                samples = {name: sample_of(f, own, *chosen) for name, f in features.items() if f.sampled}
                found |= {name: dataclasses.replace(found[name], sample=sample) for name, sample in samples.items()}
            profile = Profile(rows={split: len(rows)}, features={(split, name): f for name, f in found.items()})
            total = merge_profiles(features, total, profile)
    return total


@dataclasses.dataclass(eq=False, kw_only=True)
class WriteProfile(beam.PTransform):  # type: ignore[misc]
    """Profiles all rows, in one pass, and writes the profile to a file; `bounds` and `only` are as in `profile_units`.

    Expects a pipeline. Outputs a PCollection of one element, there when the file has been written.
    """

    plan: Handoff[Plan]
    path: str
    bounds: Bounds = dataclasses.field(default_factory=dict)
    only: Sequence[str] | None = None
    sampled: bool = False  # whether samples of the values are taken, too
    errors: str
    workers: Workers | None = None  # who has the plan and does the work; None: the runner places it

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[None]:
        """Wires the pass."""
        plan = self.plan.load()
        runs = plan.units.runs()
        where: Any = {"workers": self.workers, "errors": self.errors}
        merge = functools.partial(merge_profiles, profiled(plan, sampled=self.sampled))
        return (
            pipeline
            | "ProfileUnits"
            >> Distribute(profile_units, runs, self.plan, self.bounds, self.only, self.sampled, **where)
            | "AddUpProfiles" >> beam.CombineGlobally(Merge(merge, Profile(rows={}, features={})))
            | "WriteProfile" >> beam.Map(Recorded(write_profile, self.errors), self.path)
        )


def write_profile(profile: Profile, path: str) -> None:
    """Writes a profile to a file, for `read_profile`."""
    write_checked(path, pickle.dumps(profile))


def read_profile(path: str) -> Profile:
    """Reads what `WriteProfile` wrote, as the driver does, which has the versions of its workers.

    A WorkerError where it is not whole, or something else.
    """
    data = read_checked(path)
    if data is None:
        raise WorkerError(f"{path}: expected the profile of the rows; found none that is whole")
    try:
        profile: Profile = load_statistics(data)
    except pickle.UnpicklingError as error:
        raise WorkerError(f"{path}: {error}") from error
    return profile
