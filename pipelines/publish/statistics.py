"""`statistics.pb`: the statistics of the training rows as TensorFlow Data Validation draws and compares them."""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipelines.plan.plan import Plan
from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.statistics.sample import TEXT_BYTES, Sample
from pipelines.statistics.summary import Statistics

F64 = npt.NDArray[np.float64]

BUCKETS = 40
"""Buckets of equal width. Of TFDV's own 10 two samples of one normal distribution have a divergence of 0.015, as TFDV
takes values to be evenly spread in a bucket and extremes differ; of 40 it is 0.004."""

QUANTILES = 10
TOP, RANKS = 20, 1000
"""Buckets of equal counts, and most frequent values: as many as TFDV has unless it is told otherwise."""

_TYPES = {"float_list": "FLOAT", "int64_list": "INT", "bytes_list": "BYTES"}


def make_statistics(
    plan: Plan, recorded: TrainingStatistics, samples: Mapping[str, Sample], *, rows: int
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of so many training rows' source values, each feature's elements pooled.

    Counts, moments, extremes and the frequencies of classes are exact. Histograms, quantiles, zeros and texts are those
    of the sample, scaled to all values. There are none of complex numbers and ids. Types and numbers of values are
    those of `schema.pbtxt`, where there is one. The custom statistic `missing` counts the values that are missing,
    which tensorflow_metadata has no field for.
    """
    result = statistics_pb2.DatasetFeatureStatisticsList()
    encodings = _encodings(plan)
    dataset = result.datasets.add(name=plan.training_split, num_examples=rows)
    for feature in plan.config.features:
        values, sample = recorded.statistics.get(feature.name), samples.get(feature.name)
        if values is None and sample is None:
            continue
        entry = dataset.features.add()
        entry.path.step.append(feature.name)
        elements = math.prod(feature.value_shape) * rows
        if values is not None:
            elements = int(np.sum(values.count) + np.sum(values.missing))
            entry.custom_stats.add(name="missing", num=float(np.sum(values.missing)))
        encoding = encodings.get(feature.name)
        classes = recorded.classes.get(feature.name)
        if values is None:
            assert sample is not None, "there is one or the other"
            common = _describe_texts(entry, sample, classes, elements)
        elif encoding == "int64_list" and feature.spec.class_names and classes is not None:
            common = _describe_classes(entry, classes, length=0.0)  # the schema says that they are categories
            entry.type = entry.INT
        else:
            common = _describe_numbers(entry, values, sample)
            integer = np.dtype(feature.source_dtype).kind != "f"
            entry.type = _TYPES[encoding] if encoding else "INT" if integer else "FLOAT"
            if encoding == "bytes_list":
                elements = rows  # a row's numbers are one value of a record
        common.num_non_missing, common.tot_num_values = rows, elements
        common.avg_num_values = elements / max(rows, 1)
        if not feature.ragged or encoding:
            common.min_num_values = common.max_num_values = elements // max(rows, 1)
    return result


def _encodings(plan: Plan) -> dict[str, str]:
    """Which list of a record holds each feature, where there is a schema that says so."""
    if plan.rows_per_record > 1:
        return {}
    return {spec.name: spec.encoding(rows_per_record=1) for spec in plan.specs}


def _describe_numbers(entry: Any, values: Statistics, sample: Sample | None) -> Any:
    numbers = entry.num_stats
    numbers.mean, numbers.std_dev = pool_mean_and_std(values)
    numbers.min, numbers.max = float(np.fmin.reduce(values.min, None)), float(np.fmax.reduce(values.max, None))
    found, weights = (np.zeros(0), np.zeros(0)) if sample is None else _weighted(sample)
    if found.size:
        weights *= np.sum(values.count) / weights.sum()
        numbers.num_zeros = round(float(weights[found == 0].sum()))
        cuts = _quantiles(found, weights, np.linspace(0, 1, QUANTILES + 1))
        numbers.median = float(cuts[QUANTILES // 2])
        cuts[0], cuts[-1] = numbers.min, numbers.max  # which are exact
        equal = np.full(QUANTILES, np.sum(values.count) / QUANTILES)
        for kind, (edges, sizes) in (
            ("STANDARD", _equally_wide(found, weights, cuts[[0, -1]])),
            ("QUANTILES", (cuts, equal)),
        ):
            histogram = numbers.histograms.add(type=kind, num_nan=int(np.sum(values.missing)))
            for low, high, size in zip(edges[:-1].tolist(), edges[1:].tolist(), sizes.tolist(), strict=True):
                histogram.buckets.add(low_value=low, high_value=high, sample_count=size)
    return numbers.common_stats


def _weighted(sample: Sample) -> tuple[F64, F64]:
    """The values of a sample that are not missing, ascending, and for how many values each stands."""
    values = sample.values.astype(np.float64)
    there, weights = sample.there, np.ones(values.shape)
    if sample.lengths is not None:
        weights *= (sample.lengths / np.maximum(there.sum(axis=1), 1))[:, None]
    there &= ~np.isnan(values)
    order = np.argsort(values[there], kind="stable")
    return values[there][order], weights[there][order]


def _quantiles(values: F64, weights: F64, shares: F64) -> F64:
    """The values, which ascend, at some shares of their weight."""
    ends = np.cumsum(weights)
    return np.asarray(values[np.minimum(np.searchsorted(ends, shares * ends[-1]), len(values) - 1)])


def _equally_wide(values: F64, weights: F64, ends: F64) -> tuple[F64, F64]:
    """The edges of buckets from the least to the greatest value, and how many values each has; infinities apart."""
    finite = values[np.isfinite(values)]
    low, high = np.where(np.isfinite(ends), ends, [finite[0], finite[-1]] if finite.size else 0.0)
    edges = np.array([low, high]) if low == high else np.linspace(low, high, BUCKETS + 1)
    infinite = np.isinf(ends)
    edges = np.concatenate([ends[:1][infinite[:1]], edges, ends[1:][infinite[1:]]])
    # A value lies in the first bucket that does not end below it.
    place = np.minimum(np.maximum(np.searchsorted(edges, values) - 1, 0), len(edges) - 2)
    return edges, np.bincount(place, weights, len(edges) - 1).astype(np.float64)


def _describe_texts(entry: Any, sample: Sample, classes: Distinct | None, count: int) -> Any:
    """Texts, or bytes where some are no text in UTF-8."""
    assert sample.sizes is not None, "a feature without numbers is text"
    length = float(sample.sizes.mean()) if sample.sizes.size else 0.0
    found, counts = np.unique(sample.values, return_counts=True)
    if not all(map(_is_text, found.tolist())):
        entry.type = entry.BYTES
        texts = entry.bytes_stats
        texts.unique, texts.avg_num_bytes = len(found), length
        texts.min_num_bytes, texts.max_num_bytes = float(sample.sizes.min()), float(sample.sizes.max())
        texts.max_num_bytes_int = int(sample.sizes.max())
        return texts.common_stats
    entry.type = entry.STRING
    if classes is None:
        classes = Distinct(found, counts * (count / max(counts.sum(), 1)), np.array([len(found)]))
    return _describe_classes(entry, classes, length=length)


def _describe_classes(entry: Any, classes: Distinct, *, length: float) -> Any:
    """Values and how often each occurs, the most frequent first."""
    texts = entry.string_stats
    texts.unique, texts.avg_length = len(classes.values), length
    order = np.argsort(-classes.counts, kind="stable")[:RANKS]
    for rank, (value, count) in enumerate(zip(classes.values[order], classes.counts[order].tolist(), strict=True)):
        name = value.decode(errors="ignore") if isinstance(value, bytes) else str(value)
        if rank < TOP:
            texts.top_values.add(value=name, frequency=count)
        texts.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=name, sample_count=count)
    return texts.common_stats


def _is_text(value: bytes) -> bool:
    """Whether bytes are UTF-8, as far as they were not cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(value, final=len(value) < TEXT_BYTES)
    except UnicodeDecodeError:
        return False
    return True


def pool_mean_and_std(values: Statistics) -> tuple[float, float]:
    """The mean and the standard deviation of all elements of a feature together."""
    known = values.count > 0
    count = values.count[known].astype(np.float64)
    if not count.size:
        return float("nan"), float("nan")
    mean = float(np.average(values.mean[known], weights=count))
    with np.errstate(over="ignore", invalid="ignore"):  # where a square does not fit, it is shown as infinite
        variance = np.average(values.std[known] ** 2 + (values.mean[known] - mean) ** 2, weights=count)
    return mean, float(np.sqrt(variance))
