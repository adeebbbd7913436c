"""The facts that a report shows: what a manifest or a plan says, exact statistics, and a sample of rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest
from loaders.format.names import SAMPLE
from loaders.format.spec import FeatureSpec
from loaders.order.class_mixing import ShuffleQuality, compare_labels
from pipelines.errors import NpyflowError
from pipelines.forecast.estimate import describe
from pipelines.maintain.leakage import Leaks
from pipelines.output.directory import read_listed, read_statistics
from pipelines.page import stored_rows
from pipelines.plan.plan import Plan
from pipelines.plan.resolve import training_split_of
from pipelines.reading.batches import Columns, Ragged, take, values_of
from pipelines.reading.sample import SourceSample, sample_sources
from pipelines.sources.provenance import raw_specs
from pipelines.statistics.sample import Sample, load_samples
from pipelines.statistics.summary import Over, Statistics, moments, summarize

Rows = npt.NDArray[Any] | Ragged

MIXED_ROWS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """A split: its rows, bytes and shards; None where only a build will tell."""

    name: str
    rows: int | None
    bytes: int | None
    shards: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feature:
    """What is known of one feature."""

    source: FeatureSpec | None  # as the sources have it; None where the transform alone gives it
    batch: FeatureSpec | None  # as a batch holds it; None where it is in none
    said: Mapping[str, Any]  # in the configuration
    statistics: Statistics | None  # exact ones of the training rows before the transform
    classes: tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None  # of the training rows, exact
    raw: Mapping[str, Rows]  # for each split, a sample of rows before the transform, where they are known
    made: Mapping[str, Rows]  # the same as a batch has them; empty where they are as before
    places: Mapping[str, npt.NDArray[np.float64]]  # where each row of `raw` lies in the sources, from 0 to 1
    drawn: Sample | None = None  # the random sample of training rows that a build took
    # Quantiles of the training rows before the transform that a step has learned, by per cent of the values.
    exact: Mapping[float, npt.NDArray[np.float64]] = dataclasses.field(default_factory=dict)

    @property
    def spec(self) -> FeatureSpec:
        """The feature before the transform, where it is known so."""
        spec = self.source or self.batch
        assert spec is not None, "a feature is in the sources or in a batch"
        names = self.batch.class_names if self.batch else tuple(map(str, self.said.get("class_names", ())))
        role = self.batch.role if self.batch else self.said.get("role", spec.role)
        return dataclasses.replace(spec, role=role, class_names=names)

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.spec.name

    @functools.cached_property
    def estimates(self) -> Mapping[str, Statistics]:
        """The statistics of the sample of each split, before the transform; infinite values count as missing."""
        if not self.spec.dtype.startswith(("bool", "int", "uint", "float")):
            return {}
        over = self.said.get("over", "element")
        shared: Over = tuple(over) if isinstance(over, list) else over
        found = {}
        for split, rows in self.raw.items():
            values = numbers_of(self.spec, self.said, rows)
            if len(values):
                finite = np.where(np.isinf(values), np.nan, values) if values.dtype.kind == "f" else values
                found[split] = summarize(moments(finite.reshape(values_of(rows).shape), shared))
        return found

    @property
    def rows(self) -> Mapping[str, Rows]:
        """The sample that shows the feature best: before the transform, where that is known."""
        return self.raw or self.made


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What a report shows."""

    built: bool  # whether it is of a data set, and not of sources
    features: Mapping[str, Feature]
    splits: tuple[Split, ...]
    training: str  # the split that statistics are of
    sampled: Mapping[str, int]  # how many rows of each split are in the sample
    whole: bool  # whether the sample is all rows
    config: Mapping[str, Any]  # in full
    manifest: Manifest | None = None
    problems: tuple[str, ...] = ()  # what could not be read
    # For each label, how evenly runs of `MIXED_ROWS` training rows have its classes, as they are stored.
    shuffle_quality: Mapping[str, ShuffleQuality] = dataclasses.field(default_factory=dict)
    leaks: Leaks | None = None  # where that was asked

    @property
    def aligned(self) -> frozenset[str]:
        """The features whose training samples are the same rows: those of the sources, where there are such."""
        there = {name: feature for name, feature in self.features.items() if self.training in feature.rows}
        of_sources = any(feature.places for feature in there.values())
        return frozenset(name for name, feature in there.items() if feature.places or not of_sources)


def of_sources(plan: Plan) -> Facts:
    """The facts of sources, as a build would read them."""
    sample, problems = _sample(plan)
    raw, places = _by_split(plan, sample)
    config = plan.config.dump()
    specs = {spec.name: spec for spec in raw_specs(plan.table)}
    features = {
        name: Feature(
            source=spec,
            batch=None,
            said=config["features"].get(name, {}),
            statistics=None,
            classes=None,
            raw={split: columns[name] for split, columns in raw.items()},
            made={},
            places=places,
        )
        for name, spec in specs.items()
    }
    splits = tuple(Split(name=name, **expected) for name, expected in describe(plan)["splits"].items())
    return Facts(
        built=False,
        features=features,
        splits=splits,
        training=plan.training_split,
        sampled={split: len(rows) for split, rows in places.items()},
        whole=sample is not None and sample.whole,
        config=config,
        problems=(*problems, *map(str, plan.table.skipped)),
    )


def of_data_set(
    root: str, manifest: Manifest, *, plan: Plan | None = None, sample: SourceSample | None = None
) -> Facts:
    """The facts of a data set; with the plan of its build and a sample of the sources, also of their rows.

    Errors are those of `read_shard`.
    """
    stored = {split: stored_rows.sample_shards(root, manifest, split) for split in manifest.splits}
    raw, places = ({}, {}) if plan is None else _by_split(plan, sample)
    recorded = read_statistics(root, manifest)
    training = training_split_of(manifest)
    made, constants = stored_rows.transformed(root, manifest, stored), stored_rows.fitted(root, manifest)
    data = read_listed(root, manifest, SAMPLE)
    samples = {} if data is None else load_samples(data)
    sources = {spec.name: spec for spec in manifest.sources}
    batch = {spec.name: spec for spec in manifest.transformed or manifest.features}
    features = {}
    for name in sorted({*sources, *batch}):
        said = manifest.config["features"].get(name, {})
        as_is = _as_is(manifest, name)
        own_stored = {split: columns[name] for split, columns in stored.items() if name in columns}
        own_raw = {split: columns[name] for split, columns in raw.items() if name in columns}
        own_made = {split: columns[name] for split, columns in made.items() if name in columns}
        statistics = recorded.statistics.get(name)
        features[name] = Feature(
            source=sources.get(name),
            batch=batch.get(name),
            said=said,
            statistics=statistics,
            classes=(recorded.classes[name].values, recorded.classes[name].counts)
            if name in recorded.classes
            else None,
            raw=own_raw or (own_stored if as_is else {}),
            made=own_made or ({} if as_is else own_stored),
            places=places if own_raw else {},
            drawn=samples.get(name),
            exact={} if statistics is None else stored_rows.exact_quantiles(name, said, constants, statistics),
        )
    splits = (
        Split(name=name, rows=manifest.rows(name), bytes=sum(shard.bytes for shard in shards), shards=len(shards))
        for name, shards in manifest.splits.items()
    )
    sampled = {split: len(next(iter(columns.values()))) if columns else 0 for split, columns in stored.items()}
    whole = sampled == {split: manifest.rows(split) for split in manifest.splits}
    if sample is not None:  # which most of the page shows
        sampled = {split: len(rows) for split, rows in places.items()}
        whole = whole and sample.whole
    skipped = (
        f"{problem['path']}: expected {problem['expected']}; found {problem['found']}" for problem in manifest.skipped
    )
    dropped = [f"{manifest.dropped:,} rows of the sources were dropped"] if manifest.dropped else []
    return Facts(
        built=True,
        features=features,
        splits=tuple(splits),
        training=training,
        sampled=sampled,
        whole=whole,
        config=manifest.config,
        manifest=manifest,
        problems=(*dropped, *skipped),
        shuffle_quality=_shuffle_quality(manifest, stored[training]),
    )


def _shuffle_quality(manifest: Manifest, stored: Columns) -> dict[str, ShuffleQuality]:
    """How evenly runs of stored rows have the classes of each label that can be compared."""
    found = {}
    for spec in manifest.features:
        if spec.role == "label" and spec.shape == () and spec.numpy_dtype.kind in "biuO" and spec.name in stored:
            with contextlib.suppress(ValueError):  # one class, or few rows
                found[spec.name] = compare_labels(np.asarray(stored[spec.name]), batch_size=MIXED_ROWS)
    return found


def _as_is(manifest: Manifest, name: str) -> bool:
    """Whether the shards hold a feature as the sources do."""
    if manifest.config.get("preprocessing_fn") is not None:
        return False
    said = manifest.config["features"].get(name)
    if said is None:  # an indicator of missing values
        return False
    return said.get("store") == "raw" or stored_rows.is_untouched(said)


def _sample(plan: Plan) -> tuple[SourceSample | None, list[str]]:
    try:
        return sample_sources(plan), []
    except (NpyflowError, OSError) as error:
        return None, [f"The sources could not be read: {error}"]


def _by_split(plan: Plan, sample: SourceSample | None) -> tuple[dict[str, Columns], dict[str, npt.NDArray[np.float64]]]:
    """The rows of each split, and where they lie; nothing of no sample."""
    if sample is None:
        return {}, {}
    rows = {split: np.flatnonzero(sample.splits == number) for number, split in enumerate(plan.splits)}
    columns = {split: take(sample.columns, own) for split, own in rows.items() if len(own)}
    return columns, {split: sample.places[rows[split]] for split in columns}


def numbers_of(spec: FeatureSpec, said: Mapping[str, Any], rows: Rows) -> npt.NDArray[Any]:
    """The values of some rows as `[rows or steps, elements]`, NaN where one is missing; of no numbers empty.

    They have their own dtype, but float64 where values are declared to be missing.
    """
    if spec.dtype == "string" or spec.dtype.startswith("complex"):
        return np.zeros((0, 1))
    values = values_of(rows)
    found = values.reshape(len(values), math.prod(values.shape[1:]))
    if absent := said.get("missing"):
        found = found.astype(np.float64)
        found[np.isin(found, np.asarray(absent, np.float64))] = np.nan
    return found
