"""Pass 1: the training rows through tf.transform's analysis, in columnar batches of fixed rows."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Iterator, Sequence
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

from pipelines import files, preprocessing
from pipelines.columns import Columns, read_columns, take
from pipelines.config import ResolvedFeature
from pipelines.output import Output
from pipelines.plan import Plan
from pipelines.statistics import Moments, Statistics, merge, moments, summarize

STAGE = "analyze"

Arrays = tuple[npt.NDArray[Any], ...]


def other_features(plan: Plan) -> tuple[ResolvedFeature, ...]:
    """The features that only get statistics; an id has none."""
    return tuple(f for f in plan.config.features if not f.transformed and f.spec.role != "id")


def statistics_files(directory: str) -> tuple[str, str]:
    """Where the statistics of transformed and of other features are written."""
    return files.join(directory, "transformed.npz"), files.join(directory, "others.npz")


class Analyze(beam.PTransform):  # type: ignore[misc]
    """Writes the transform (where a feature is transformed) and the statistics of the training rows.

    Expects a pipeline. Outputs a PCollection of one element, there when both have been written.

    Attributes:
        plan: The plan.
        output: Where the data set is written.
    """

    def __init__(self, plan: Plan, output: Output) -> None:
        super().__init__()
        self.plan = plan
        self.output = output

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the pass."""
        transformed, others = self.plan.config.transformed, other_features(self.plan)
        transformed_file, others_file = statistics_files(self.output.statistics)
        batches = (
            pipeline
            | "ListUnits" >> beam.Create(range(self.plan.analysis_units))
            | "SpreadUnits" >> beam.Reshuffle()
            | "ReadTrainingRows" >> beam.FlatMap(read_training_rows, self.plan).with_output_types(Columns)
        )
        done = (
            batches
            | "SelectOthers" >> beam.Map(select, others)
            | "DescribeOthers" >> DescribeFeatures(others, path=others_file)
        )
        if not transformed:
            return done | "MarkDone" >> beam.Map(_mark_done, self.output)
        config = tensor_adapter_config(transformed)
        record_batches = batches | "ToRecordBatch" >> beam.Map(to_record_batch, config.arrow_schema)

        def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            (packed,) = tft.experimental.ptransform_analyzer(
                [inputs[feature.name] for feature in transformed],
                PackConstants(transformed, path=transformed_file),
                [tf.float64],
                [[preprocessing.packed_size(transformed)]],
            )
            return preprocessing.preprocess(inputs, packed, transformed)

        transform_fn = (record_batches, config) | tft_beam.AnalyzeDataset(preprocessing_fn)
        written = transform_fn | "WriteTransform" >> tft_beam.WriteTransformFn(self.output.transform)
        return written | "MarkDone" >> beam.Map(_mark_done, self.output, beam.pvalue.AsList(done))


def _mark_done(_: object, output: Output, _others: Iterable[object] = ()) -> None:
    files.write_text(output.analysis_done, "")


def read_training_rows(unit: int, plan: Plan) -> Iterator[Columns]:
    """The training rows of one unit of analysis, as one batch; nothing where there is none."""
    spans = plan.analysis_spans(unit)
    mask = plan.training_mask(spans)
    columns = read_columns(plan, spans, stage=STAGE)
    if mask.all():
        yield columns
    elif mask.any():
        yield take(columns, mask)


def select(columns: Columns, features: Sequence[ResolvedFeature]) -> Arrays:
    """The arrays of some features."""
    return tuple(columns[feature.name] for feature in features)


def tensor_adapter_config(features: Sequence[ResolvedFeature]) -> tensor_adapter.TensorAdapterConfig:
    """How tf.transform turns record batches of these features into dense tensors."""
    fields, representations = [], {}
    for feature in features:
        value_type = pa.from_numpy_dtype(preprocessing.graph_dtype(feature))
        fields.append(pa.field(feature.name, pa.large_list(value_type)))
        representation = schema_pb2.TensorRepresentation()
        representation.dense_tensor.column_name = feature.name
        for size in feature.spec.shape:
            representation.dense_tensor.shape.dim.add().size = size
        representations[feature.name] = representation
    return tensor_adapter.TensorAdapterConfig(pa.schema(fields), representations)


def to_record_batch(columns: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """Columns as an Arrow record batch of flat lists, one list a row; the values are not copied."""
    arrays = []
    for field in schema:
        values = columns[field.name]
        width = values[0].size
        flat = pa.array(values.reshape(-1).astype(field.type.value_type.to_pandas_dtype(), copy=False))
        offsets = pa.array(np.arange(len(values) + 1, dtype=np.int64) * width)
        arrays.append(pa.LargeListArray.from_arrays(offsets, flat))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class MomentsFn(beam.CombineFn):  # type: ignore[misc]
    """Adds up the moments of tuples of arrays, one array for each feature."""

    def __init__(self, features: Sequence[ResolvedFeature]) -> None:
        self._features = tuple(features)

    def create_accumulator(self) -> list[Moments]:
        """The moments of no row."""
        return [
            moments(np.empty((0, *feature.spec.shape), feature.source_dtype), feature.over)
            for feature in self._features
        ]

    def add_input(self, accumulator: list[Moments], batch: Arrays) -> list[Moments]:
        """Adds the moments of one batch."""
        added = [moments(values, feature.over) for values, feature in zip(batch, self._features, strict=True)]
        return self.merge_accumulators([accumulator, added])

    def merge_accumulators(self, accumulators: Iterable[list[Moments]]) -> list[Moments]:
        """Adds up accumulators."""
        return functools.reduce(lambda one, other: list(map(merge, one, other)), accumulators)

    def extract_output(self, accumulator: list[Moments]) -> dict[str, Statistics]:
        """The statistics by feature."""
        return {feature.name: summarize(values) for feature, values in zip(self._features, accumulator, strict=True)}


class DescribeFeatures(beam.PTransform):  # type: ignore[misc]
    """Computes the statistics of features and keeps them in a file.

    Expects a PCollection of tuples of arrays, one for each feature. Outputs a PCollection of one element, the
    statistics by feature.
    """

    def __init__(self, features: Sequence[ResolvedFeature], *, path: str) -> None:
        super().__init__()
        self._features = tuple(features)
        self._path = path

    def expand(self, batches: beam.PCollection[Arrays]) -> beam.PCollection[dict[str, Statistics]]:
        """Wires the computation."""
        return (
            batches
            | "AddMoments" >> beam.CombineGlobally(MomentsFn(self._features))
            | "KeepStatistics" >> beam.Map(keep_statistics, self._path)
        )


class PackConstants(beam.PTransform):  # type: ignore[misc]
    """The analyzer: statistics of the features, kept in a file, and the graph's constants made from them."""

    def __init__(self, features: Sequence[ResolvedFeature], *, path: str) -> None:
        super().__init__()
        self._features = tuple(features)
        self._path = path

    def expand(self, batches: beam.PCollection[Arrays]) -> tuple[beam.PCollection[npt.NDArray[np.float64]]]:
        """Wires the analyzer."""
        packed = (
            batches
            | "DescribeFeatures" >> DescribeFeatures(self._features, path=self._path)
            | "PackConstants" >> beam.Map(lambda statistics: preprocessing.pack(self._features, statistics))
        )
        return (packed,)


def keep_statistics(statistics: dict[str, Statistics], path: str) -> dict[str, Statistics]:
    """Writes statistics to a file and hands them on."""
    files.write_bytes(path, dump_statistics(statistics))
    return statistics


def dump_statistics(statistics: dict[str, Statistics]) -> bytes:
    """Statistics as the bytes of an `.npz` archive with keys `<feature>/<statistic>`."""
    buffer = io.BytesIO()
    arrays = {f"{name}/{key}": array for name, value in statistics.items() for key, array in value.arrays().items()}
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load_statistics(data: bytes) -> dict[str, Statistics]:
    """Reads what `dump_statistics` wrote."""
    values: dict[str, dict[str, Any]] = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for key in archive.files:
            name, _, statistic = key.rpartition("/")
            values.setdefault(name, {})[statistic] = archive[key]
    return {name: Statistics(**arrays) for name, arrays in values.items()}
