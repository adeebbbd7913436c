"""Pass 1: the training rows, read once for each round of `fit`, and what was learned exported by tf.transform."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio import tensor_adapter

from pipelines import files, fit, preprocessing
from pipelines.archive import dump_arrays, load_arrays
from pipelines.custom import load_function
from pipelines.fit import Accumulated, Knowledge
from pipelines.learn import add_units, learning, read_training_rows, unit_ranges
from pipelines.local import Job, Workers
from pipelines.output import FITTED, MOMENTS, STATISTICS, Output
from pipelines.plan import Plan
from pipelines.reading.columns import Ragged
from pipelines.resolve import ResolvedFeature
from pipelines.spread import Spread
from pipelines.statistics.summary import Statistics, summarize


class Analyze(beam.PTransform):  # type: ignore[misc]
    """Writes the transform (where a feature is transformed) and the statistics of the training rows.

    Expects a pipeline. Outputs a PCollection of one element, there when all has been written.

    Attributes:
        plan: The plan.
        output: Where the data set is written.
        workers: Forked workers of this machine that have the plan, or None.
        first_round: The first round, where it has been begun already.
    """

    def __init__(
        self, plan: Plan, output: Output, *, workers: Workers | None = None, first_round: Job | None = None
    ) -> None:
        super().__init__()
        self.plan = plan
        self.output = output
        self.workers = workers
        self.first_round = first_round

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the pass."""
        known = pipeline | "LearnFromRows" >> Learn(self.plan, workers=self.workers, first_round=self.first_round)
        kept = known | "KeepLearned" >> beam.Map(keep, self.plan, self.output.statistics)
        if self.plan.config.has_transform:
            kept = kept | "ExportTransform" >> Export(self.plan, self.output)
        return kept | "MarkDone" >> beam.Map(_mark_done, self.output)


def _mark_done(_: object, output: Output) -> None:
    files.write_text(output.analysis_done, "")


class Learn(beam.PTransform):  # type: ignore[misc]
    """Learns from the training rows, in as many rounds as `fit.schedule` says.

    Expects a pipeline. Outputs a PCollection of one element, the `Knowledge`.
    """

    def __init__(self, plan: Plan, *, workers: Workers | None, first_round: Job | None) -> None:
        super().__init__()
        self._plan = plan
        self._workers = workers
        self._first_round = first_round

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Knowledge]:
        """Wires the rounds; each reads the rows anew, so that no runner has to hold them."""
        plan, features = self._plan, learning(self._plan)
        known = pipeline | "KnowNothing" >> beam.Create([fit.begin(features.values())], reshuffle=False)
        workers = self._first_round or self._workers
        for number, needs in enumerate(fit.schedule(tuple(features.values()))):
            before = beam.pvalue.AsSingleton(known)
            added = (
                pipeline
                | f"AddUnits{number}" >> Spread(add_units, unit_ranges(plan), plan, needs, before, workers=workers)
                | f"AddUp{number}" >> beam.CombineGlobally(AddUp(features))
            )
            workers = self._workers
            known = added | f"LearnRound{number}" >> beam.Map(learn, features, beam.pvalue.AsSingleton(known))
        return known


class AddUp(beam.CombineFn):  # type: ignore[misc]
    """Merges what units have added; exact, so that the order does not matter."""

    def __init__(self, features: Mapping[str, ResolvedFeature]) -> None:
        self._features = features

    def create_accumulator(self) -> None:
        """Nothing."""

    def add_input(self, accumulator: Accumulated | None, added: Accumulated) -> Accumulated:
        """Adds what some units have added."""
        return added if accumulator is None else fit.merge_accumulated(self._features, accumulator, added)

    def merge_accumulators(self, accumulators: Iterable[Accumulated | None]) -> Accumulated | None:
        """Adds up accumulators."""
        found = (accumulator for accumulator in accumulators if accumulator is not None)
        return functools.reduce(self.add_input, found, None)

    def extract_output(self, accumulator: Accumulated | None) -> Accumulated | None:
        """The sum."""
        return accumulator


def learn(added: Accumulated, features: Mapping[str, ResolvedFeature], known: Knowledge) -> Knowledge:
    """What is known after a round."""
    return fit.update(features, known, added)


def keep(known: Knowledge, plan: Plan, directory: str) -> npt.NDArray[np.float64]:
    """Writes statistics, moments and constants to files.

    Returns:
        The constants of the transformed features, packed.
    """
    features = learning(plan)
    statistics = {
        name: summarize(found.moments)
        for name, found in known.items()
        if features[name].described and found.moments is not None
    }
    classes = {
        f"{name}/class_{key}": array
        for name, found in known.items()
        if found.classes is not None
        for key, array in found.classes.items()
    }
    files.write_bytes(files.join(directory, STATISTICS), dump_arrays(flat(statistics) | classes))
    moments = {
        f"{name}/{key}": array
        for name, found in known.items()
        if found.moments is not None
        for key, array in found.moments.to_arrays().items()
    }
    files.write_bytes(files.join(directory, MOMENTS), dump_arrays(moments))
    transformed = plan.config.transformed
    if transformed and plan.config.custom is None:
        constants = preprocessing.keep_constants(transformed, known)
        files.write_bytes(files.join(directory, FITTED), dump_arrays(constants))
    return preprocessing.pack(transformed, known)


class Export(beam.PTransform):  # type: ignore[misc]
    """Writes tf.transform's SavedModel of the steps, or of the user's own function.

    Expects a PCollection of one element, the packed constants of the steps. Outputs a PCollection of one element, there
    when the transform has been written.
    """

    def __init__(self, plan: Plan, output: Output) -> None:
        super().__init__()
        self._plan = plan
        self._output = output

    def expand(self, packed: beam.PCollection[npt.NDArray[np.float64]]) -> beam.PCollection[Any]:
        """Wires the export. What steps need has been learned; a user's function has tf.transform's own analysis."""
        config = self._plan.config
        adapter = tensor_adapter_config(config.graph_features)
        if config.custom is not None:
            preprocessing_fn = load_function(config.custom.place)
            batches = packed.pipeline | "ReadRecordBatches" >> ReadRecordBatches(self._plan, adapter.arrow_schema)
        else:
            batches = packed.pipeline | "NoRows" >> beam.Create([], reshuffle=False)

            def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
                (constants,) = tft.experimental.ptransform_analyzer(
                    list(inputs.values()), _Hand(packed), [tf.float64], [[None]]
                )
                return preprocessing.preprocess(inputs, constants, config.transformed)

        transform_fn = (batches, adapter) | "Analyze" >> tft_beam.AnalyzeDataset(preprocessing_fn)
        return transform_fn | "WriteTransform" >> tft_beam.WriteTransformFn(self._output.transform)


class ReadRecordBatches(beam.PTransform):  # type: ignore[misc]
    """Reads the training rows as Arrow record batches, one for each unit of analysis.

    Expects a pipeline. Outputs a PCollection of `pa.RecordBatch`.
    """

    def __init__(self, plan: Plan, schema: pa.Schema) -> None:
        super().__init__()
        self._plan = plan
        self._schema = schema

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[pa.RecordBatch]:
        """Wires the reading."""
        return (
            pipeline
            | "ListUnits" >> beam.Create(range(self._plan.analysis_units))
            | "SpreadUnits" >> beam.Reshuffle()
            | "ToRecordBatch" >> beam.Map(read_record_batch, self._plan, self._schema)
        )


def read_record_batch(unit: int, plan: Plan, schema: pa.Schema) -> pa.RecordBatch:
    """The training rows of a unit as flat lists, one list a row."""
    columns = read_training_rows(unit, plan, names=schema.names)
    arrays = []
    for field in schema:
        column = columns[field.name]
        assert not isinstance(column, Ragged), "the transform takes no rows of varying length"
        value_type = field.type.value_type
        values = column.reshape(-1)
        if not pa.types.is_large_binary(value_type):
            values = values.astype(value_type.to_pandas_dtype(), copy=False)
        width = math.prod(column.shape[1:])
        offsets = pa.array(np.arange(len(column) + 1, dtype=np.int64) * width)
        arrays.append(pa.LargeListArray.from_arrays(offsets, pa.array(values, value_type)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Hand(beam.PTransform):  # type: ignore[misc]
    """An analyzer that hands on what has been learned already."""

    def __init__(self, packed: beam.PCollection[Any]) -> None:
        super().__init__()
        self._packed = packed

    def expand(self, _: beam.PCollection[Any]) -> tuple[beam.PCollection[Any]]:
        """Wires the analyzer."""
        return (self._packed | "HandOn" >> beam.Map(_same),)


def _same(value: Any) -> Any:
    return value


def tensor_adapter_config(features: Sequence[ResolvedFeature]) -> tensor_adapter.TensorAdapterConfig:
    """How tf.transform turns record batches of these features into dense tensors."""
    fields, representations = [], {}
    for feature in features:
        string = feature.source_dtype == "string"
        value_type = pa.large_binary() if string else pa.from_numpy_dtype(feature.graph_dtype)
        fields.append(pa.field(feature.name, pa.large_list(value_type)))
        representation = schema_pb2.TensorRepresentation()
        representation.dense_tensor.column_name = feature.name
        representation.dense_tensor.shape.SetInParent()
        for size in feature.value_shape:
            representation.dense_tensor.shape.dim.add().size = size
        representations[feature.name] = representation
    return tensor_adapter.TensorAdapterConfig(pa.schema(fields), representations)


def flat(statistics: Mapping[str, Statistics]) -> dict[str, npt.NDArray[Any]]:
    """Statistics as arrays by `<feature>/<statistic>`."""
    return {f"{name}/{key}": array for name, value in statistics.items() for key, array in value.arrays().items()}


def load_statistics(data: bytes) -> dict[str, Statistics]:
    """The statistics of an `.npz` archive with keys `<feature>/<statistic>`; other arrays are left."""
    known = {field.name for field in dataclasses.fields(Statistics)}
    values: dict[str, dict[str, Any]] = {}
    for key, array in load_arrays(data).items():
        name, _, statistic = key.rpartition("/")
        if statistic in known:
            values.setdefault(name, {})[statistic] = array
    return {name: Statistics(**arrays) for name, arrays in values.items()}
