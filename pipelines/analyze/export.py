"""The end of pass 1: what was learned as tf.transform's SavedModel, in whatever file system the output is."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import impl_helper
from tfx_bsl.tfxio import tensor_adapter

from pipelines.analyze.accumulate import read_training_rows
from pipelines.analyze.function_constants import add_constants, read_constants
from pipelines.analyze.preprocessing import combine, combine_learned, read_packed
from pipelines.analyze.user_function import function_failed
from pipelines.analyzers.engine import errors_recorded, writing_constants
from pipelines.config.resolved import ResolvedFeature, UserFunction
from pipelines.errors import ConfigError
from pipelines.output.directory import Output, local_directory
from pipelines.plan.plan import Plan
from pipelines.reading.batches import Columns, Ragged
from pipelines.runners.failures import Recorded
from pipelines.runners.handoff import Handoff
from pipelines.runners.process_setup import give_memory_back
from pipelines.storage import directories, files

SOURCES_SCHEMA = "metadata/schema.pbtxt"
"""Where `tft.TFTransformOutput.raw_feature_spec` looks for the features of the sources."""

PARSED = {"float32": schema_pb2.FLOAT, "int64": schema_pb2.INT, "string": schema_pb2.BYTES}
"""The types that `tf.io.parse_example` gives."""


@dataclasses.dataclass(eq=False)
class ExportSavedModel(beam.PTransform):  # type: ignore[misc]
    """Writes tf.transform's SavedModel of the steps, or of the user's own function.

    Expects a PCollection of one element, the file of the steps' constants. Outputs a PCollection of one element, there
    when the transform has been written.
    """

    plan: Handoff[Plan]
    output: Output

    def expand(self, fitted: beam.PCollection[str]) -> beam.PCollection[Any]:
        """Wires the export. What steps need has been learned; what a function asks of tf.transform has not."""
        config = self.plan.load().config
        custom = config.custom
        if custom is None or custom.traced is not None:
            export = Recorded(export_transform, self.output.errors)
            return fitted | "ExportTransform" >> beam.Map(export, self.plan, self.output)
        adapter = tensor_adapter_config(config.graph_features)
        read = ReadRecordBatches(self.plan, adapter.arrow_schema, self.output.errors)
        no_rows = beam.Create([], reshuffle=False)
        batches = fitted.pipeline | "ReadRecordBatches" >> (read if custom.phases else no_rows)
        take = Recorded(read_packed, self.output.errors)
        packed = fitted | "TakeConstants" >> beam.Map(take, config.transformed) if config.transformed else None
        constants = self.output.temporary("constants")
        with errors_recorded(self.output.errors), writing_constants(constants):
            transform_fn = (batches, adapter) | "Analyze" >> tft_beam.AnalyzeDataset(combine(config, packed))
        read.only(custom.phases, fitted.pipeline)
        written = os.path.join(tft_beam.Context.create_base_temp_dir(), "written")
        done = transform_fn | "WriteTransform" >> tft_beam.WriteTransformFn(written)
        put = Recorded(_put_transform, self.output.errors)
        # Not before the statistics are there: what follows marks all as done.
        after = beam.pvalue.AsSingleton(fitted)
        schema = sources_schema(config.graph_features)
        return done | "PutTransform" >> beam.Map(put, written, schema, self.output, custom, constants, after)


@contextlib.contextmanager
def analysis_context(plan: Plan, output: Output, *, here: bool, shared: str | None) -> Iterator[None]:
    """tf.transform's context for the analysis of the user's own function, while a pipeline is wired and runs.

    What tf.transform hands on between the steps of a pipeline is files, which TensorFlow writes and all workers read:
    in a directory of this machine where these are `here`, else in the output or in one that is `shared`, if TensorFlow
    can write to it. Nothing is needed but for a function that asks tf.transform's own analyzers.

    Raises:
        ConfigError: If there is no such directory.
    """
    if plan.config.custom is None or plan.config.custom.traced is not None:
        yield
        return
    with (
        _failures_told(plan.config.custom),
        _analysis_directory(output, here=here, shared=shared) as directory,
        # Each of its phases reads the rows for itself, so that no runner holds them.
        tft_beam.Context(temp_dir=directory, use_deep_copy_optimization=True),
    ):
        yield


@contextlib.contextmanager
def _failures_told(custom: UserFunction) -> Iterator[None]:
    """Says what TensorFlow says of rows in the analysis of a function, without its operations and the rows."""
    try:
        yield
    except Exception as error:
        if FAILED not in str(error):
            raise
        raise function_failed(custom.place, str(error)) from error


FAILED = "An error occurred while trying to apply the transformation"
"""How tf.transform begins what it says of a batch that the traced function cannot take."""


@contextlib.contextmanager
def _analysis_directory(output: Output, *, here: bool, shared: str | None) -> Iterator[str]:
    """A directory for what tf.transform hands on; arguments and errors as of `analysis_context`."""
    if here:
        with local_directory(output) as directory:
            yield directory
        return
    place = next((path for path in (output.temporary("transform"), shared) if path and _tensorflow_writes(path)), None)
    if place is None:
        expected = "expected --temp_location=DIRECTORY, which TensorFlow can write to on all workers"
        raise ConfigError(
            f"preprocessing_fn: {expected}, as it cannot write to {output.root}; found {shared or 'none'}"
        )
    directory = files.join(place, uuid.uuid4().hex)
    try:
        yield directory
    finally:
        if tf.io.gfile.exists(directory):
            tf.io.gfile.rmtree(directory)


def _tensorflow_writes(root: str) -> bool:
    try:
        tf.io.gfile.exists(root)
    except tf.errors.OpError:
        return False
    return True


def export_transform(fitted: str, plan: Plan, output: Output) -> None:
    """Writes the SavedModel of the steps, whose constants are in a file, all of it on the worker that calls this.

    tf.transform hands files on between the steps of a pipeline, which would have to lie where TensorFlow can write and
    all workers can read. Here they are in a local directory of this worker, from which the transform is copied.
    """
    with local_directory(output) as directory:
        directories.copy_tree(export_to(directory, fitted, plan), output.new_transform)


def export_to(directory: str, fitted: str, plan: Plan) -> str:
    """Writes the SavedModel of the steps below a local directory, and says where.

    All that they learn is known, so what tf.transform's pipeline traces and writes at its end is written here at once:
    the pipeline alone would take more than half of the processor time of a small build.
    """
    written = os.path.join(directory, "transform")
    model = os.path.join(written, tft.TFTransformOutput.TRANSFORM_FN_DIR)
    function = combine_learned(plan.config, fitted)
    give_memory_back()
    impl_helper.trace_and_write_v2_saved_model(
        saved_model_dir=model,
        preprocessing_fn=function,
        input_signature=tensor_adapter.TensorAdapter(
            tensor_adapter_config(plan.config.graph_features)
        ).OriginalTypeSpecs(),
        base_temp_dir=os.path.join(directory, "analysis"),
        baseline_analyzers_fingerprint={},
        tensor_replacement_map=None,
        output_keys_to_name_map=None,
        save_options=tf.saved_model.SaveOptions(),
    )
    metadata = os.path.join(written, tft.TFTransformOutput.TRANSFORMED_METADATA_DIR)
    os.rename(os.path.join(model, impl_helper.METADATA_DIR_NAME), metadata)
    files.write_bytes(os.path.join(written, SOURCES_SCHEMA), sources_schema(plan.config.graph_features))
    return written


def _put_transform(
    _: object, written: str, schema: bytes, output: Output, custom: UserFunction, constants: str, __: object
) -> None:
    """Copies a transform from where TensorFlow has written it to the output, with what the function has learned."""
    add_constants(read_constants(custom, constants), output.staged)
    for name, data in (*read_written(written), (SOURCES_SCHEMA, schema)):
        files.write_bytes(files.join(output.new_transform, name), data)


def read_written(directory: str) -> Iterator[tuple[str, bytes]]:
    """The files that TensorFlow has written below a directory, by their paths from there."""
    for above, _directories, names in tf.io.gfile.walk(directory):
        for name in names:
            path = os.path.join(above, name)
            with tf.io.gfile.GFile(path, "rb") as file:
                yield path[len(directory) + 1 :], file.read()


@dataclasses.dataclass(eq=False)
class ReadRecordBatches(beam.PTransform):  # type: ignore[misc]
    """Reads the training rows as Arrow record batches, one for each unit of analysis.

    Expects a pipeline. Outputs a PCollection of `pa.RecordBatch`.
    """

    plan: Handoff[Plan]
    schema: pa.Schema
    errors: str

    def __post_init__(self) -> None:
        self._read = self._read_features(self.schema.names)

    def _read_features(self, names: Sequence[str]) -> beam.ParDo:
        return beam.Map(Recorded(read_record_batch, self.errors), self.plan, self.schema, names)

    def only(self, phases: Sequence[Sequence[str]], pipeline: beam.Pipeline) -> None:
        """Lets each phase read the features that it needs, once tf.transform has copied the reading for each phase.

        The copies come after the reading in the pipeline, in the order of the phases.
        """
        copies = _Copies(self._read)
        pipeline.visit(copies)
        for applied, names in zip(copies.found, phases, strict=True):
            applied.transform = self._read_features(names)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[pa.RecordBatch]:
        """Wires the reading."""
        units = [(unit, None) for unit in range(len(self.plan.load().training_units))]
        return (
            pipeline
            | "ListUnits" >> beam.Create(units, reshuffle=False)
            | "DistributeUnits" >> _Distributed()
            | "TakeUnit" >> beam.Keys()
            | "ToRecordBatch" >> self._read
        )


class _Distributed(beam.GroupByKey):  # type: ignore[misc]
    """A GroupByKey of unit numbers, by which a runner shares them among its workers.

    With deep copies, tf.transform gives each of its phases a copy of the reading, back to the next `beam.GroupByKey`.
    What the phases share is one stage for Beam's runner, which then holds all rows of a later phase until the earlier
    one is done. A class of its own is copied as well: each phase has the unit numbers to itself, and nobody holds rows.
    """


class _Copies(PipelineVisitor):  # type: ignore[misc]
    """Finds where a pipeline applies a transform."""

    def __init__(self, transform: beam.PTransform) -> None:
        self._transform = transform
        self.found: list[AppliedPTransform] = []

    def visit_transform(self, applied: AppliedPTransform) -> None:
        """Looks at one place."""
        if applied.transform is self._transform:
            self.found.append(applied)


def read_record_batch(unit: int, plan: Plan, schema: pa.Schema, names: Sequence[str]) -> pa.RecordBatch:
    """The training rows of a unit as `to_flat_lists` makes them: some features, and zeros for the others."""
    columns = read_training_rows(unit, plan, names=names)
    rows = len(columns[names[0]])
    for feature in plan.config.graph_features:
        if feature.name not in columns:
            dtype = "S1" if feature.source_dtype == "string" else feature.graph_dtype
            columns[feature.name] = np.zeros((rows, *feature.value_shape), dtype)
    return to_flat_lists(columns, schema)


def to_flat_lists(columns: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """Rows as tf.transform takes them: flat lists, one list a row."""
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


def sources_schema(features: Sequence[ResolvedFeature]) -> bytes:
    """The features of the sources, by which tf.transform's users parse the examples that a served model is sent.

    A feature that the graph takes in a type that `tf.io.parse_example` does not give is left out.
    """
    schema = schema_pb2.Schema()
    for feature in features:
        if feature.graph_kind in PARSED:
            entry = schema.feature.add(name=feature.name, type=PARSED[feature.graph_kind])
            entry.presence.min_fraction = 1.0
            entry.shape.SetInParent()
            for size in feature.value_shape:
                entry.shape.dim.add(size=size)
    return bytes(text_format.MessageToString(schema), "utf-8")


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
