"""`statistics.pb`: the statistics of the training rows as TensorFlow Data Validation shows them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipelines.plan.plan import Plan
from pipelines.statistics.summary import Statistics


def make_statistics(
    plan: Plan, statistics: Mapping[str, Statistics], *, rows: int
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of so many training rows' source values, each feature's elements pooled, as TFDV shows them.

    The custom statistic `missing` counts the values that are missing, which tensorflow_metadata has no field for.
    `statistics.npz` holds the statistics of each element; there are none of strings, complex numbers and ids.
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
