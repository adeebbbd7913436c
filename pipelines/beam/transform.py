"""`Analyze` and `Transform`: the steps of a configuration, learned from the rows of a pipeline and applied to them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions

from pipelines.analyze import fit, graph, rounds
from pipelines.analyze.accumulate import accumulate
from pipelines.analyze.fit import Known
from pipelines.analyze.function_constants import Arrays, add_constants, read_constants
from pipelines.analyze.rounds import Accumulated
from pipelines.beam.learned_transform import Learned
from pipelines.beam.read import ReadNpy
from pipelines.beam.row_placement import are_training, hashes_of
from pipelines.beam.rows import Batch
from pipelines.config.resolved import ResolvedConfig, UserFunction
from pipelines.errors import ConfigError, DataError
from pipelines.plan.plan import Plan
from pipelines.reading.batches import Columns, take, values_of
from pipelines.reading.columns import find_unusable
from pipelines.runners.combine import Merge
from pipelines.runners.process_setup import quick_imports
from pipelines.storage import files
from pipelines.storage.temporary import temporary_directory
from pipelines.write.transform import apply_transform


class Analyze(beam.PTransform):  # type: ignore[misc]
    """Learns what the steps of a configuration, or its `preprocessing_fn`, need of the training rows.

    Expects the PCollection of batches that `source`, a `ReadNpy(…, config=…, key=…)`, has made, or what is left of it.
    Outputs a PCollection of one element: the transform, as tf.transform exports it, and the statistics of the training
    rows, for `Transform` and `WriteDataset`. Training rows are those of a build: a row's split is a function of its
    key. The statistics do not depend on the batches, bit for bit.

    The batches are gone through once for each round of learning, which most steps need one of; a runner that does not
    hold them reads them again.
    """

    def __init__(self, source: ReadNpy, *, temp_location: str | None = None) -> None:
        """Says from which rows is learned.

        Args:
            source: What has read the rows, with their configuration.
            temp_location: A directory that all workers share and TensorFlow can write to, for a `preprocessing_fn`;
                that of the pipeline's options, unless said: what is written there stays, in `tftransform_tmp`. With
                neither it is a directory of this machine, which is removed when the program ends.

        Raises:
            ConfigError: If the rows have no key.
        """
        super().__init__()
        if source.key is None:
            raise ConfigError("source: expected ReadNpy(…, key=NAME), by which rows are known again; found no key")
        self._key = source.key
        self._plan = source.plan
        self._temp_location = temp_location

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Learned]:
        """Wires the rounds, and what follows them."""
        pipeline = rows.pipeline
        plan = beam.pvalue.AsSingleton(pipeline | "Plan" >> beam.Create([self._plan], reshuffle=False))
        training = rows | "TakeTrainingRows" >> beam.FlatMap(training_rows, self._key, plan).with_output_types(Batch)
        features = rounds.analyzed_features(self._plan)
        known = pipeline | "KnowNothing" >> beam.Create([fit.begin(features.values())], reshuffle=False)
        for number, needs in enumerate(rounds.schedule(features.values())):
            before = beam.pvalue.AsSingleton(known)
            added = training | f"AddBatches{number}" >> beam.Map(_add, needs, features, before, self._key, plan)
            merged = added | f"AddUp{number}" >> beam.CombineGlobally(Merge(functools.partial(rounds.merge, features)))
            known = merged | f"LearnRound{number}" >> beam.Map(_learn_round, features, before)
        written: tuple[Any, ...] = ()
        custom = self._plan.config.custom
        if custom is not None and custom.traced is None:
            packed = known | "PackLearned" >> beam.Map(_pack, self._plan.config)
            written = (beam.pvalue.AsSingleton(self._analyze_custom(training, packed)),)
        return known | "Export" >> beam.Map(export, plan, *written).with_output_types(Learned)

    def _analyze_custom(
        self, training: beam.PCollection[Any], packed: beam.PCollection[Any]
    ) -> beam.PCollection[tuple[Mapping[str, bytes], Arrays]]:
        with quick_imports():
            import tensorflow_transform.beam as tft_beam

            from pipelines.analyze.export import tensor_adapter_config
            from pipelines.analyze.preprocessing import combine
            from pipelines.analyzers.engine import writing_constants

        config = self._plan.config
        assert config.custom is not None
        place = self._temp_location or training.pipeline.options.view_as(GoogleCloudOptions).temp_location
        adapter = tensor_adapter_config(config.graph_features)
        batches = training | "ToRecordBatch" >> beam.Map(_to_flat_lists, adapter.arrow_schema)
        place = place or _kept_until_the_end()
        constants = files.join(place, f"constants-{uuid.uuid4().hex}")
        with tft_beam.Context(temp_dir=place), writing_constants(constants):
            function = combine(config, packed)
            transform_fn = (batches, adapter) | "AnalyzeRows" >> tft_beam.AnalyzeDataset(function)
            written = os.path.join(tft_beam.Context.create_base_temp_dir(), "written")
            done = transform_fn | "WriteTransform" >> tft_beam.WriteTransformFn(written)
        return done | "ReadWritten" >> beam.Map(_read_written, written, config.custom, constants)


def _kept_until_the_end() -> str:
    """A directory of this machine that goes with this process: nothing else tells when a pipeline has run."""
    until_the_end = contextlib.ExitStack()
    atexit.register(until_the_end.close)
    return until_the_end.enter_context(temporary_directory("analysis"))


def training_rows(batch: Columns, key: str, plan: Plan) -> Iterator[Columns]:
    """The training rows of a batch, if there are any; errors are those of `check_usable`."""
    training = are_training(plan, batch[key])
    if training.any():
        columns = batch if training.all() else take(batch, training)
        check_usable(plan.config, columns)
        yield columns


def check_usable(config: ResolvedConfig, columns: Columns) -> None:
    """Raises a DataError where a feature that is transformed holds an infinity."""
    for feature in config.transformed:
        index = find_unusable(feature, columns)
        if index is not None:
            found = values_of(columns[feature.name])[index]
            raise DataError(f"feature {feature.name}: expected finite values or NaN; found {found}")


def _add(
    batch: Columns, needs: Any, features: Mapping[str, rounds.Analyzed], known: Known, key: str, plan: Plan
) -> Accumulated:
    hashes = hashes_of(plan, batch[key]) if rounds.takes_sample(needs) else None
    return accumulate(needs, features, known, batch, hashes, of=plan.table.rows_in_all)


def _learn_round(added: Accumulated | None, features: Mapping[str, rounds.Analyzed], known: Known) -> Known:
    if added is None:
        raise DataError("rows: expected training rows; found none")
    return fit.update(features, known, added)


def _pack(known: Known, config: ResolvedConfig) -> Any:
    return graph.pack(config.transformed, graph.fitted_arrays(config.transformed, known))


def _to_flat_lists(batch: Columns, schema: Any) -> Any:
    from pipelines.analyze.export import to_flat_lists

    return to_flat_lists(batch, schema)


def _read_written(
    _: object, directory: str, custom: UserFunction, constants: str
) -> tuple[Mapping[str, bytes], Arrays]:
    from pipelines.analyze.export import read_written

    return dict(read_written(directory)), read_constants(custom, constants)


def export(known: Known, plan: Plan, of_function: tuple[Mapping[str, bytes], Arrays] | None = None) -> Learned:
    """What was learned, with tf.transform's SavedModel of the steps, or what was written of the user's function."""
    with quick_imports():
        from pipelines.analyze.beam import write_fitted
        from pipelines.analyze.export import export_to

    with temporary_directory("learned") as directory:
        fitted = write_fitted(known, plan, os.path.join(directory, "statistics"))
        written, constants = of_function or ({}, {})
        if constants:
            add_constants(constants, os.path.join(directory, "statistics"))
        if plan.config.has_transform and of_function is None:
            export_to(directory, fitted, plan)
        return Learned.of(plan.config, directory, written)


class Transform(beam.PTransform):  # type: ignore[misc]
    """Applies what `Analyze` has learned.

    Expects a PCollection of batches of raw columns, as `ReadNpy` makes them. Outputs one of batches as the shards of a
    build hold them: the features of the configuration in their dtypes, transformed unless they are stored raw, and
    beside them every other column, such as the key, as it is. A row's result does not depend on the other rows.
    """

    def __init__(self, learned: beam.PCollection[Learned]) -> None:
        """Says what is applied, `learned` by `Analyze`."""
        super().__init__()
        self._learned = learned

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Wires the transform."""
        apply = beam.Map(transform_batch, beam.pvalue.AsSingleton(self._learned))
        return rows | "Apply" >> apply.with_output_types(Batch)


def transform_batch(batch: Columns, learned: Learned) -> Columns:
    """A batch, transformed; errors are those of `check_usable` and `apply_transform`."""
    check_usable(learned.config, batch)
    names = {feature.name for feature in learned.config.features}
    beside = {name: column for name, column in batch.items() if name not in names}
    return apply_transform(learned.load(), learned.config, batch) | beside
