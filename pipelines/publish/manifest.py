"""The last stage: what lies beside the shards and, strictly last, the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import google_crc32c
from google.protobuf import text_format

from loaders.format import names
from loaders.format.frames import record_bytes
from loaders.format.manifest import File, Manifest
from loaders.format.spec import FeatureSpec, is_variable
from pipelines.config.resolved import ResolvedFeature
from pipelines.output.directory import Output
from pipelines.output.tasks import read_shard_list
from pipelines.plan.plan import Plan
from pipelines.publish.gather import gather
from pipelines.publish.golden import make_golden
from pipelines.publish.schema import make_schema
from pipelines.publish.statistics import make_statistics
from pipelines.runners.versions import versions
from pipelines.sources.provenance import Provenance, raw_specs
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.storage import files


def publish(plan: Plan, output: Output, *, transform_from: str | None = None) -> Manifest:
    """Makes a data set of the shards, transform and statistics that have been written; the manifest is written last.

    Args:
        plan: The plan.
        output: Where they have been written.
        transform_from: The fingerprint of the data set whose transform and statistics these are, if another's.

    Raises:
        PublishError: If a shard is missing, or rows were lost or doubled.
    """
    tasks = read_shard_list(output)
    splits = gather(plan, tasks)
    files.write_text(output.path(names.SCHEMA), text_format.MessageToString(make_schema(plan.specs)))
    if transform_from is None:
        _describe_rows(plan, output, rows=sum(shard.rows for shard in splits[plan.training_split]))
    _publish_learned(plan, output)
    files.write_text(output.path(names.SOURCES), Provenance.of(plan.table).dumps())
    variable = is_variable(plan.specs)
    manifest = Manifest(
        features=plan.specs,
        splits=splits,
        files=tuple(_describe_files(plan, output)),
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
    files.write_text(output.manifest, manifest.dumps())
    files.remove_tree(output.build)
    files.remove_unfinished(output.root)
    return manifest


def transformed_specs(features: tuple[ResolvedFeature, ...]) -> tuple[FeatureSpec, ...] | None:
    """What a batch holds after the transform, sorted by name, where some feature is stored raw; otherwise None."""
    if all(feature.store != "raw" for feature in features):
        return None
    specs = [spec for feature in features if feature.store != "none" for spec in feature.outputs]
    return tuple(sorted(specs, key=lambda spec: spec.name))


def _describe_rows(plan: Plan, output: Output, *, rows: int) -> None:
    """Writes the statistics of the training rows, of which there are so many."""
    found = TrainingStatistics.load(files.read_bytes(files.join(output.statistics, names.STATISTICS))).statistics
    described = make_statistics(plan, found, rows=rows)
    files.write_bytes(files.join(output.statistics, names.STATISTICS_PROTO), described.SerializeToString())


def _publish_learned(plan: Plan, output: Output) -> None:
    """Puts what was learned beside the shards, and some rows that show what the transform does."""
    for name in names.OF_TRAINING_ROWS:
        path = files.join(output.statistics, name)
        if files.exists(path):
            files.write_bytes(output.path(name), files.read_bytes(path))
    if plan.config.has_transform and not files.exists(files.join(output.statistics, names.GOLDEN)):
        files.write_bytes(output.path(names.GOLDEN), make_golden(plan, output.transform))


def _describe_files(plan: Plan, output: Output) -> Iterator[File]:
    found = [*names.ALWAYS, *(name for name in names.OPTIONAL if files.exists(output.path(name)))]
    if plan.config.has_transform:
        found += [f"{names.TRANSFORM}/{file.path}" for file in files.list_files(output.transform)]
    for name in sorted(found):
        yield describe_file(name, files.read_bytes(output.path(name)))


def describe_file(name: str, data: bytes) -> File:
    """What the manifest says of a file."""
    return File(file=name, bytes=len(data), crc32c=f"{google_crc32c.value(data):08x}")
