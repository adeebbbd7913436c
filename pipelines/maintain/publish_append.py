"""What a data set has beside its shards once rows were added, and how far these have drifted from those before."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

from loaders.format import names
from loaders.format.manifest import Manifest, Shard
from pipelines.analyze.classes import check_classes
from pipelines.config.resolved import ResolvedFeature
from pipelines.maintain.append import Appended
from pipelines.maintain.profile import FeatureProfile, class_counter, read_profile
from pipelines.maintain.reuse import Existing
from pipelines.output.commit import commit
from pipelines.output.directory import Output
from pipelines.output.tasks import read_shard_list
from pipelines.plan.plan import Plan
from pipelines.publish.manifest import describe_file, describe_for_others, gather
from pipelines.publish.statistics import make_statistics
from pipelines.runners.versions import versions
from pipelines.sources.provenance import PartRecord
from pipelines.statistics.drift import CHANCE, Drift, compare
from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.recorded import TrainingStatistics, dump_moments, load_moments
from pipelines.statistics.sample import Sample, dump_samples, load_samples
from pipelines.statistics.summary import Statistics, merge, summarize
from pipelines.storage import files

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


def publish_append(plan: Plan, existing: Existing, output: Output) -> Appended:
    """Makes the new statistics where nobody looks, and commits them with the new shards; nothing is added twice."""
    tasks = read_shard_list(output)
    added = gather(plan, tasks)
    profile = read_profile(output.profile)
    training = {name: own for (split, name), own in profile.features.items() if split == plan.training_split}
    shards = _shards_of(existing, added, plan.training_split)
    described_rows, drifts = grow(plan, existing, training, rows=sum(shard.rows for shard in shards))
    records = (*existing.provenance.parts, *map(PartRecord.of, plan.table.parts))
    provenance = dataclasses.replace(existing.provenance, parts=records)
    staged = {names.SOURCES: provenance.dumps().encode(), **described_rows}
    for name, data in staged.items():
        files.write_bytes(files.join(output.staged, name), data)
    manifest = _new_manifest(plan, existing, added, staged, dropped=sum(task.dropped for task in tasks))
    manifest, described = describe_for_others(manifest, output)
    commit(output, manifest, staged={*staged, *described})
    return Appended(before=existing.manifest, manifest=manifest, drifts=drifts)


def _shards_of(existing: Existing, added: Mapping[str, tuple[Shard, ...]], split: str) -> tuple[Shard, ...]:
    return (*existing.manifest.splits.get(split, ()), *added.get(split, ()))


def _new_manifest(
    plan: Plan,
    existing: Existing,
    added: Mapping[str, tuple[Shard, ...]],
    staged: Mapping[str, bytes],
    *,
    dropped: int,
) -> Manifest:
    before = existing.manifest
    described = {file.file: file for file in before.files}
    for name, data in staged.items():
        described[name] = describe_file(name, data)
    root, parts = plan.table.root, plan.table.parts
    mended = {files.absolute(files.locate(root, source.path)) for part in parts for source in part.sources.values()}
    skipped = [problem for problem in before.skipped if files.absolute(problem["path"]) not in mended]
    skipped += [dataclasses.asdict(problem) for problem in plan.table.skipped]
    sources = f"{before.source_fingerprint} {plan.table.fingerprint(modified=False)}"
    return dataclasses.replace(
        before,
        splits={split: _shards_of(existing, added, split) for split in {**before.splits, **added}},
        files=tuple(described[name] for name in sorted(described)),
        source_fingerprint=hashlib.blake2b(sources.encode(), digest_size=16).hexdigest(),
        dropped=before.dropped + dropped,
        skipped=tuple({json.dumps(problem, sort_keys=True): problem for problem in skipped}.values()),
        versions=versions(),
    )


def grow(
    plan: Plan, existing: Existing, added: Mapping[str, FeatureProfile], *, rows: int
) -> tuple[dict[str, bytes], dict[str, FeatureDrift]]:
    """Adds the new training rows, if there are any, to the statistics of a data set, which then has so many `rows`.

    Returns the files that describe all training rows, by name: none where there is no new training row, or where the
    statistics are those of another data set. And the drift of each feature of the transform.

    Raises:
        ManifestError: If a file of the data set is not as its manifest says.
        DataError: If a class has no name.
    """
    if not added:
        return {}, {}
    old = existing.read(names.MOMENTS)
    before = load_moments(old)
    apart = existing.manifest.lists(names.TRANSFORM_MOMENTS)
    learned = load_moments(existing.read(names.TRANSFORM_MOMENTS)) if apart else before
    new = {name: profile.moments for name, profile in added.items() if profile.moments is not None}
    total = {name: merge(moments, new[name]) for name, moments in before.items()}
    used = [f.name for f in plan.config.features if f.name in total and (f.transformed or plan.config.custom)]
    drifts = {name: measure_drift(*(summarize(moments[name]) for moments in (learned, new, total))) for name in used}
    if existing.manifest.transform_from is not None:
        return {}, drifts
    features = {feature.name: feature for feature in plan.config.features}
    described = {name: summarize(moments) for name, moments in total.items() if features[name].described}
    check_classes(plan, described)
    classes = count_on(TrainingStatistics.load(existing.read(names.STATISTICS)).classes, features, added)
    recorded = TrainingStatistics(statistics=described, classes=classes)
    samples = _grown_samples(plan, existing, added)
    grown = {
        names.MOMENTS: dump_moments(total),
        names.STATISTICS: recorded.dump(),
        names.STATISTICS_PROTO: make_statistics(plan, recorded, samples, rows=rows).SerializeToString(),
        **({names.SAMPLE: dump_samples(samples)} if samples else {}),
    }
    return grown if apart else grown | {names.TRANSFORM_MOMENTS: old}, drifts


def _grown_samples(plan: Plan, existing: Existing, added: Mapping[str, FeatureProfile]) -> dict[str, Sample]:
    """The samples of all training rows; none where those of the data set are not known, as in earlier versions."""
    if not existing.manifest.lists(names.SAMPLE):
        return {}
    before, of = load_samples(existing.read(names.SAMPLE)), plan.table.rows_in_all
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
