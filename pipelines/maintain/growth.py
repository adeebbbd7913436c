"""The statistics of a data set to which rows are added: those of all training rows, and how far they have drifted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from loaders.format.names import MOMENTS, SAMPLE, STATISTICS, STATISTICS_PROTO, TRANSFORM_MOMENTS
from pipelines.analyze.classes import check_classes
from pipelines.config.resolved import ResolvedFeature
from pipelines.maintain.profile import FeatureProfile, class_counter
from pipelines.maintain.reuse import Existing
from pipelines.plan.plan import Plan
from pipelines.publish.statistics import make_statistics
from pipelines.statistics.drift import CHANCE, Drift, compare
from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.recorded import TrainingStatistics, dump_moments, load_moments
from pipelines.statistics.sample import Sample, dump_samples, load_samples
from pipelines.statistics.summary import Statistics, merge, summarize

MAX_SHIFT = 0.25
MAX_SPREAD = 1.5
MAX_MISSING = 0.05
"""Drift that is worth a warning: of a mean in deviations, of a deviation as a factor, of a rate of missing values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """How far a feature has drifted from the rows that the transform was learned from.

    Attributes:
        added: The new training rows.
        total: All training rows.
        certain: All training rows, less what comes by chance.
    """

    added: Drift
    total: Drift
    certain: Drift

    @property
    def large(self) -> bool:
        """Whether it is worth a warning."""
        found = self.certain
        return found.shift > MAX_SHIFT or found.spread > MAX_SPREAD or found.missing > MAX_MISSING


def grow(
    plan: Plan, existing: Existing, added: Mapping[str, FeatureProfile], *, rows: int
) -> tuple[dict[str, bytes], dict[str, FeatureDrift]]:
    """Adds the new training rows, if there are any, to the statistics of a data set, which then has so many `rows`.

    Returns:
        The files that describe all training rows, by name: none where there is no new training row, or where the
        statistics are those of another data set. And the drift of each feature of the transform.

    Raises:
        ManifestError: If a file of the data set is not as its manifest says.
        DataError: If a class has no name.
    """
    if not added:
        return {}, {}
    old = existing.read(MOMENTS)
    before = load_moments(old)
    apart = existing.manifest.lists(TRANSFORM_MOMENTS)
    learned = load_moments(existing.read(TRANSFORM_MOMENTS)) if apart else before
    new = {name: profile.moments for name, profile in added.items() if profile.moments is not None}
    total = {name: merge(moments, new[name]) for name, moments in before.items()}
    names = [f.name for f in plan.config.features if f.name in total and (f.transformed or plan.config.custom)]
    drifts = {name: measure_drift(*(summarize(moments[name]) for moments in (learned, new, total))) for name in names}
    if existing.manifest.transform_from is not None:
        return {}, drifts
    features = {feature.name: feature for feature in plan.config.features}
    described = {name: summarize(moments) for name, moments in total.items() if features[name].described}
    check_classes(plan, described)
    classes = count_on(TrainingStatistics.load(existing.read(STATISTICS)).classes, features, added)
    recorded = TrainingStatistics(statistics=described, classes=classes)
    samples = _grown_samples(plan, existing, added)
    grown = {
        MOMENTS: dump_moments(total),
        STATISTICS: recorded.dump(),
        STATISTICS_PROTO: make_statistics(plan, recorded, samples, rows=rows).SerializeToString(),
        **({SAMPLE: dump_samples(samples)} if samples else {}),
    }
    return grown if apart else grown | {TRANSFORM_MOMENTS: old}, drifts


def _grown_samples(plan: Plan, existing: Existing, added: Mapping[str, FeatureProfile]) -> dict[str, Sample]:
    """The samples of all training rows; none where those of the data set are not known, as in earlier versions."""
    if not existing.manifest.lists(SAMPLE):
        return {}
    before, of = load_samples(existing.read(SAMPLE)), plan.table.rows_in_all
    new = {name: profile.sample for name, profile in added.items() if profile.sample is not None}
    return {name: own.below(of).merge(new[name]) for name, own in before.items()}


def measure_drift(learned: Statistics, added: Statistics, total: Statistics) -> FeatureDrift:
    """The drift of one feature: from the rows that were learned from, to the new ones and to all."""
    return FeatureDrift(
        added=compare(learned, added), total=compare(learned, total), certain=compare(learned, total, errors=CHANCE)
    )


def count_on(
    before: Mapping[str, Distinct], features: Mapping[str, ResolvedFeature], added: Mapping[str, FeatureProfile]
) -> dict[str, Distinct]:
    """How often classes occur in all rows, of the labels that still have few enough of them."""
    counts = {
        name: class_counter(features[name]).merge(old, added[name].classes if name in added else None)
        for name, old in before.items()
    }
    return {name: own for name, own in counts.items() if own is not None}
