"""The last stage: schema, statistics and, strictly last, the manifest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping

import google_crc32c
import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from loaders.format.frames import record_bytes
from loaders.format.manifest import File, Manifest, Shard
from loaders.format.spec import FeatureSpec, is_variable
from pipelines.config.resolved import ResolvedFeature
from pipelines.errors import DataError, NpyflowError
from pipelines.output.directory import (
    BESIDE,
    GOLDEN,
    KEPT,
    LEARNED,
    SOURCES,
    STATISTICS,
    STATISTICS_PROTO,
    TRANSFORM,
    TRANSFORM_MOMENTS,
    Output,
)
from pipelines.plan.plan import Plan
from pipelines.publish.golden import make_golden
from pipelines.runners.versions import versions
from pipelines.sources.provenance import Provenance, raw_specs
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.statistics.summary import Statistics
from pipelines.storage import files
from pipelines.write.shards import Written


class PublishError(NpyflowError):
    """A build whose shards do not add up to its sources."""


def publish(plan: Plan, output: Output, *, transform_from: str | None = None) -> Manifest:
    """Makes a data set of what the tasks have written.

    Args:
        plan: The plan.
        output: Where the shards, the transform and the statistics have been written.
        transform_from: The fingerprint of the data set whose transform and statistics these are, if another's.

    Returns:
        The manifest, which has been written last.

    Raises:
        PublishError: If a shard is missing, or rows were lost or doubled.
    """
    tasks = [Written.from_json(task) for task in json.loads(files.read_text(output.shard_list))]
    splits = gather(plan, tasks)
    files.write_text(output.path("schema.pbtxt"), text_format.MessageToString(make_schema(plan.specs)))
    if transform_from is None:
        _describe_rows(plan, output, rows=sum(shard.rows for shard in splits[plan.training_split]))
    _keep_learned(plan, output)
    files.write_text(output.path(SOURCES), Provenance.of(plan.table).dumps())
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
        transform=TRANSFORM if plan.config.has_transform else None,
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
    statistics = read_statistics(output)
    check_classes(plan, statistics)
    described = make_statistics(plan, statistics, rows=rows)
    files.write_bytes(files.join(output.statistics, STATISTICS_PROTO), described.SerializeToString())


def _keep_learned(plan: Plan, output: Output) -> None:
    """Puts what was learned beside the shards, and some rows that show what the transform does."""
    for name in KEPT:
        path = files.join(output.statistics, name)
        if files.exists(path):
            files.write_bytes(output.path(name), files.read_bytes(path))
    if plan.config.has_transform and not files.exists(files.join(output.statistics, GOLDEN)):
        files.write_bytes(output.path(GOLDEN), make_golden(plan, output.transform))


def _describe_files(plan: Plan, output: Output) -> Iterator[File]:
    sometimes = (*LEARNED, SOURCES, TRANSFORM_MOMENTS)
    names = [*BESIDE, *(name for name in sometimes if files.exists(output.path(name)))]
    if plan.config.has_transform:
        names += [f"{TRANSFORM}/{file.path}" for file in files.list_files(output.transform)]
    for name in sorted(names):
        data = files.read_bytes(output.path(name))
        yield File(file=name, bytes=len(data), crc32c=f"{google_crc32c.value(data):08x}")


def check_classes(plan: Plan, statistics: Mapping[str, Statistics]) -> None:
    """Checks that every class in the training rows has a name, where names are given.

    Raises:
        DataError: If one has none.
    """
    for feature in plan.config.features:
        spec = feature.spec
        # An id has no statistics, and those of a feature whose values are changed are not of its classes.
        if not spec.class_names or spec.name not in statistics or feature.transformed:
            continue
        last, highest = len(spec.class_names) - 1, float(np.fmax.reduce(statistics[spec.name].max, None))
        if highest > last:
            raise DataError(f"feature {spec.name}: expected classes 0 to {last}, which have names; found {highest:g}")


def gather(plan: Plan, tasks: list[Written]) -> dict[str, tuple[Shard, ...]]:
    """The shards of each split in order, checked against the plan.

    Raises:
        PublishError: If a shard is missing, or rows were lost or doubled.
    """
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


def read_statistics(output: Output) -> dict[str, Statistics]:
    """The statistics that the analysis has written, by feature."""
    return dict(
        sorted(TrainingStatistics.load(files.read_bytes(files.join(output.statistics, STATISTICS))).statistics.items())
    )


def make_schema(specs: tuple[FeatureSpec, ...]) -> schema_pb2.Schema:
    """The features of the shards' rows as a tensorflow_metadata schema.

    The annotation's tags are the dtype and, where there is one, the unit.
    """
    schema = schema_pb2.Schema()
    for spec in specs:
        entry = schema.feature.add(name=spec.name, type=_schema_type(spec))
        entry.presence.min_fraction = 1.0
        entry.annotation.tag.extend([spec.dtype, *([spec.unit] if spec.unit else [])])
        if spec.ragged:
            entry.value_count.min = 0
        else:
            entry.shape.SetInParent()
            for size in spec.inner_shape:
                entry.shape.dim.add(size=size)
        if spec.class_names:
            entry.int_domain.min, entry.int_domain.max = 0, len(spec.class_names) - 1
            entry.int_domain.is_categorical = True
    return schema


def _schema_type(spec: FeatureSpec) -> schema_pb2.FeatureType:
    if spec.dtype.startswith("float"):
        return schema_pb2.FLOAT
    return schema_pb2.BYTES if spec.dtype.startswith(("string", "complex")) else schema_pb2.INT


def make_statistics(
    plan: Plan, statistics: dict[str, Statistics], *, rows: int
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of the training rows' source values, each feature's elements pooled, as TFDV shows them.

    The custom statistic `missing` counts the values that are missing, which tensorflow_metadata has no field for.
    `statistics.npz` holds the statistics of each element.

    Args:
        plan: The plan.
        statistics: What the analysis has found; nothing of strings, complex numbers and ids.
        rows: How many training rows there are.
    """
    result = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = result.datasets.add(name=plan.training_split, num_examples=rows)
    for feature in plan.config.features:
        if feature.name not in statistics:
            continue
        values = statistics[feature.name]
        integer = np.dtype(feature.source_dtype).kind != "f"
        entry = dataset.features.add(type="INT" if integer else "FLOAT")
        entry.path.step.append(feature.name)
        numbers = entry.num_stats
        common, elements = numbers.common_stats, int(np.sum(values.count) + np.sum(values.missing))
        common.num_non_missing = rows
        if not feature.ragged:
            common.min_num_values = common.max_num_values = elements // max(rows, 1)
        common.avg_num_values = elements / max(rows, 1)
        common.tot_num_values = elements
        numbers.mean, numbers.std_dev = pool_mean_and_std(values)
        numbers.min, numbers.max = float(np.fmin.reduce(values.min, None)), float(np.fmax.reduce(values.max, None))
        entry.custom_stats.add(name="missing", num=float(np.sum(values.missing)))
    return result


def pool_mean_and_std(values: Statistics) -> tuple[float, float]:
    """The mean and the standard deviation of all elements of a feature together."""
    known = values.count > 0
    count = values.count[known].astype(np.float64)
    if not count.size:
        return float("nan"), float("nan")
    mean = float(np.average(values.mean[known], weights=count))
    with np.errstate(over="ignore"):  # where a square does not fit, the deviation is shown as infinite
        variance = np.average(values.std[known] ** 2 + (values.mean[known] - mean) ** 2, weights=count)
    return mean, float(np.sqrt(variance))
