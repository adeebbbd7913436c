"""The last stage: schema, statistics and, strictly last, the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import google_crc32c
import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from loaders.manifest import File, Manifest, Shard
from loaders.spec import FeatureSpec
from pipelines import files
from pipelines.analyze import dump_statistics, load_statistics, statistics_files
from pipelines.config import ResolvedFeature
from pipelines.encode import record_bytes
from pipelines.errors import DataError, NpyflowError
from pipelines.output import BESIDE, STATISTICS, TRANSFORM, Output, versions
from pipelines.plan import Plan
from pipelines.statistics import Statistics
from pipelines.write import Shards, load_shards


class PublishError(NpyflowError):
    """A build whose shards do not add up to its sources."""


def publish(plan: Plan, output: Output) -> Manifest:
    """Makes a data set of what the tasks have written.

    Args:
        plan: The plan.
        output: Where the shards, the transform and the statistics have been written.

    Returns:
        The manifest, which has been written last.

    Raises:
        PublishError: If a shard is missing, or rows were lost or doubled.
    """
    splits = gather(plan, [load_shards(task) for task in json.loads(files.read_text(output.shard_list))])
    statistics = read_statistics(plan, output)
    _check_classes(plan, statistics)
    files.write_text(output.path("schema.pbtxt"), text_format.MessageToString(make_schema(plan.config.features)))
    files.write_bytes(output.path("statistics.pb"), make_statistics(plan, statistics).SerializeToString())
    files.write_bytes(output.path(STATISTICS), dump_statistics(statistics))
    manifest = Manifest(
        features=plan.specs,
        splits=splits,
        files=tuple(_describe_files(plan, output)),
        rows_per_record=plan.rows_per_record,
        record_bytes=record_bytes(plan.specs, plan.rows_per_record),
        seed=plan.config.seed,
        source_fingerprint=plan.table.fingerprint(modified=False),
        transform=TRANSFORM if plan.config.transformed else None,
        config=plan.config.dump(),
        versions=versions(),
    )
    files.write_text(output.manifest, manifest.dumps())
    files.remove_tree(output.build)
    return manifest


def _describe_files(plan: Plan, output: Output) -> Iterator[File]:
    names = list(BESIDE)
    if plan.config.transformed:
        names += [f"{TRANSFORM}/{file.path}" for file in files.list_files(output.transform)]
    for name in sorted(names):
        data = files.read_bytes(output.path(name))
        yield File(file=name, bytes=len(data), crc32c=f"{google_crc32c.value(data):08x}")


def _check_classes(plan: Plan, statistics: Mapping[str, Statistics]) -> None:
    """Checks that every class in the training rows has a name, where names are given.

    Raises:
        DataError: If one has none.
    """
    for spec in plan.specs:
        if not spec.class_names or spec.name not in statistics:  # an id has no statistics
            continue
        last, highest = len(spec.class_names) - 1, float(np.fmax.reduce(statistics[spec.name].max, None))
        if highest > last:
            raise DataError(f"feature {spec.name}: expected classes 0 to {last}, which have names; found {highest:g}")


def gather(plan: Plan, tasks: list[Shards]) -> dict[str, tuple[Shard, ...]]:
    """The shards of each split in order, checked against the plan.

    Raises:
        PublishError: If a shard is missing, or rows were lost or doubled.
    """
    found = {shard.file: shard for task in tasks for shard in task.values()}
    splits = {}
    for split in plan.splits:
        names = [plan.shard_file(split, index) for index in range(plan.shard_count(split))]
        missing = [name for name in names if name not in found]
        if missing:
            raise PublishError(f"expected shard {missing[0]} to be written ({len(missing)} are not)")
        splits[split] = tuple(found[name] for name in names)
    rows = sum(shard.rows for shards in splits.values() for shard in shards)
    if rows != plan.table.rows:
        raise PublishError(f"expected {plan.table.rows} rows in the shards; found {rows}")
    return splits


def read_statistics(plan: Plan, output: Output) -> dict[str, Statistics]:
    """The statistics that the analysis has written, by feature."""
    transformed, others = statistics_files(output.statistics)
    paths = [transformed, others] if plan.config.transformed else [others]
    merged: dict[str, Statistics] = {}
    for path in paths:
        merged |= load_statistics(files.read_bytes(path))
    return dict(sorted(merged.items()))


def make_schema(features: tuple[ResolvedFeature, ...]) -> schema_pb2.Schema:
    """The features of the shards' rows as a tensorflow_metadata schema; the annotation's tag is the dtype."""
    schema = schema_pb2.Schema()
    for feature in features:
        spec = feature.spec
        entry = schema.feature.add(name=spec.name, type=_schema_type(spec))
        entry.presence.min_fraction = 1.0
        entry.annotation.tag.append(spec.dtype)
        entry.shape.SetInParent()
        for size in spec.shape:
            entry.shape.dim.add(size=size)
        if spec.class_names:
            entry.int_domain.min, entry.int_domain.max = 0, len(spec.class_names) - 1
            entry.int_domain.is_categorical = True
    return schema


def _schema_type(spec: FeatureSpec) -> schema_pb2.FeatureType:
    return schema_pb2.FLOAT if spec.dtype.startswith("float") else schema_pb2.INT


def make_statistics(plan: Plan, statistics: dict[str, Statistics]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of the training rows' source values, each feature's elements pooled, as TFDV shows them.

    The custom statistic `missing` counts NaN, which tensorflow_metadata has no field for. `statistics.npz` holds the
    statistics of each element.
    """
    result = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = result.datasets.add(name=plan.training_split)
    for feature in plan.config.features:
        if feature.name not in statistics:
            continue
        values, spec = statistics[feature.name], feature.spec
        rows = int(np.max(values.count + values.missing)) // _values_per_statistic(feature)
        dataset.num_examples = rows
        integer = np.dtype(feature.source_dtype).kind != "f"
        entry = dataset.features.add(type="INT" if integer else "FLOAT")
        entry.path.step.append(spec.name)
        numbers = entry.num_stats
        numbers.common_stats.num_non_missing = rows
        numbers.common_stats.min_num_values = numbers.common_stats.max_num_values = spec.row_elements
        numbers.common_stats.avg_num_values = spec.row_elements
        numbers.common_stats.tot_num_values = rows * spec.row_elements
        numbers.mean, numbers.std_dev = pool_mean_and_std(values)
        numbers.min, numbers.max = float(np.fmin.reduce(values.min, None)), float(np.fmax.reduce(values.max, None))
        entry.custom_stats.add(name="missing", num=float(values.missing.sum()))
    return result


def _values_per_statistic(feature: ResolvedFeature) -> int:
    """How many of a row's elements share one statistic."""
    return feature.spec.row_elements // int(np.prod(feature.statistics_shape, dtype=np.int64))


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
