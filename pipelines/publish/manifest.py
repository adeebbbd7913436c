"""The last stage: what lies beside the shards and, strictly last, the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import google_crc32c
from google.protobuf import text_format

from loaders.format import names
from loaders.format.manifest import File, Manifest, Shard
from loaders.format.record_layout import record_bytes
from loaders.format.spec import FeatureSpec, is_variable
from pipelines.config.resolved import ResolvedFeature
from pipelines.errors import PublishError
from pipelines.output.commit import commit
from pipelines.output.directory import Output
from pipelines.output.tasks import Written, read_shard_list
from pipelines.plan.plan import Plan
from pipelines.publish.croissant import make_croissant
from pipelines.publish.golden import make_golden
from pipelines.publish.schema import make_schema
from pipelines.publish.statistics import make_statistics
from pipelines.publish.tfds import make_files
from pipelines.runners.versions import versions
from pipelines.sources.provenance import Provenance, raw_specs
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.statistics.sample import load_samples
from pipelines.storage import directories, files


def publish(plan: Plan, output: Output, *, transform_from: str | None = None) -> Manifest:
    """Makes a data set of the shards, transform and statistics that have been written; the manifest comes last.

    Where the transform and the statistics are another data set's, `transform_from` is its fingerprint. Errors are those
    of `gather`.
    """
    tasks = read_shard_list(output)
    splits = gather(plan, tasks)
    made = {names.SOURCES: Provenance.of(plan.table).dumps().encode()}
    if transform_from is None:
        rows = sum(shard.rows for shard in splits[plan.training_split])
        found = TrainingStatistics.load(files.read_bytes(files.join(output.staged, names.STATISTICS)))
        path = files.join(output.staged, names.SAMPLE)
        samples = load_samples(files.read_bytes(path)) if files.exists(path) else {}
        made[names.STATISTICS_PROTO] = make_statistics(plan, found, samples, rows=rows).SerializeToString()
    golden_is_there = transform_from is not None and files.exists(files.join(output.staged, names.GOLDEN))
    if plan.config.has_transform and not golden_is_there:
        made[names.GOLDEN] = make_golden(plan, output.new_transform)
    for name, data in made.items():
        files.write_bytes(files.join(output.staged, name), data)
    staged = [file.path for file in directories.list_files(output.staged)]
    variable = is_variable(plan.specs)
    manifest = Manifest(
        features=plan.specs,
        splits=splits,
        files=tuple(describe_file(name, files.read_bytes(files.join(output.staged, name))) for name in staged),
        rows_per_record=plan.rows_per_record,
        record_bytes=None if variable else record_bytes(plan.specs, plan.rows_per_record),
        chunk_records=plan.chunk_records if variable else None,
        seed=plan.config.seed,
        source_fingerprint=plan.table.fingerprint(modified=False),
        transform=names.TRANSFORM if plan.config.has_transform else None,
        transformed=transformed_specs(plan.config.features),
        dropped=sum(task.dropped for task in tasks),
        skipped=tuple(dataclasses.asdict(problem) for problem in plan.table.skipped),
        config=plan.config.dump(),
        versions=versions(),
        sources=raw_specs(plan.table),
        transform_from=transform_from,
    )
    manifest, described = describe_for_others(manifest, output)
    commit(output, manifest, staged={*staged, *described})
    return manifest


def gather(plan: Plan, tasks: Sequence[Written]) -> dict[str, tuple[Shard, ...]]:
    """The shards of each split in order; a PublishError where one is missing, or rows were lost or doubled."""
    found = {shard.file: shard for task in tasks for shard in task.shards.values()}
    splits = {}
    for split in plan.splits:
        names = [plan.shard_file(split, index) for index in range(plan.shard_count(split))]
        missing = [name for name in names if name not in found]
        if missing:
            raise PublishError(f"expected shard {missing[0]} to be written ({len(missing)} are not)")
        splits[split] = tuple(found[name] for name in names)
    rows = sum(shard.rows for shards in splits.values() for shard in shards)
    dropped = sum(task.dropped for task in tasks)
    if rows + dropped != plan.table.rows:
        raise PublishError(f"expected {plan.table.rows} rows in the shards; found {rows}, and {dropped} were dropped")
    return splits


def describe_for_others(manifest: Manifest, output: Output) -> tuple[Manifest, set[str]]:
    """Writes where files are made what tells other tools of the shards: Croissant, TensorFlow Datasets, a schema.

    Returns the manifest with these files, and their names.
    """
    made = {names.CROISSANT: make_croissant(manifest), **make_files(manifest)}
    if manifest.rows_per_record == 1:
        made[names.SCHEMA] = text_format.MessageToString(make_schema(manifest.features)).encode()
    for name, data in made.items():
        files.write_bytes(files.join(output.staged, name), data)
    described = {file.file: file for file in manifest.files if file.file not in names.OF_RECORDS}
    described |= {name: describe_file(name, data) for name, data in made.items()}
    return dataclasses.replace(manifest, files=tuple(described[name] for name in sorted(described))), set(made)


def transformed_specs(features: tuple[ResolvedFeature, ...]) -> tuple[FeatureSpec, ...] | None:
    """What a batch holds after the transform, sorted by name, where some feature is stored raw; otherwise None."""
    if all(feature.store != "raw" for feature in features):
        return None
    specs = [spec for feature in features if feature.store != "none" for spec in feature.outputs]
    return tuple(sorted(specs, key=lambda spec: spec.name))


def describe_file(name: str, data: bytes) -> File:
    """What the manifest says of a file."""
    return File(file=name, bytes=len(data), crc32c=f"{google_crc32c.value(data):08x}")
