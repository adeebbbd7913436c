"""A `preprocessing_fn` in a bare pipeline of tf.transform, which knows nothing of npyflow."""

import itertools
import tempfile

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio import tensor_adapter


def adapter_config(columns):
    """How tf.transform reads record batches of some columns."""
    fields, representations = [], {}
    for name, column in columns.items():
        kind = pa.large_binary() if column.dtype.kind in "SU" else pa.from_numpy_dtype(column.dtype)
        fields.append(pa.field(name, pa.large_list(kind)))
        representation = schema_pb2.TensorRepresentation()
        representation.dense_tensor.column_name = name
        representation.dense_tensor.shape.SetInParent()
        for size in column.shape[1:]:
            representation.dense_tensor.shape.dim.add().size = size
        representations[name] = representation
    return tensor_adapter.TensorAdapterConfig(pa.schema(fields), representations)


def record_batch(columns, schema):
    """Some rows as a record batch."""
    arrays = []
    for field in schema:
        column = columns[field.name]
        width = int(np.prod(column.shape[1:], dtype=int))
        offsets = pa.array(np.arange(len(column) + 1, dtype=np.int64) * width)
        values = column.reshape(-1).astype("S").astype(object) if column.dtype.kind in "SU" else column.reshape(-1)
        arrays.append(pa.LargeListArray.from_arrays(offsets, pa.array(values, field.type.value_type)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def batches_of(columns, cuts, schema):
    """Rows as record batches, cut at some places."""
    rows = len(next(iter(columns.values())))
    edges = [0, *sorted(cuts), rows]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    return [record_batch({name: column[part] for name, column in columns.items()}, schema) for part in parts]


def as_tensors(columns):
    """Columns as TensorFlow takes them."""
    return {
        name: tf.constant(column.astype("S").astype(object) if column.dtype.kind in "SU" else column)
        for name, column in columns.items()
    }


class Storable:
    """A function whose outputs are what tf.transform's schema has: rows of float32, int64 or string."""

    def __init__(self, function):
        self.function = function
        self.dtypes = {}

    def __call__(self, inputs):
        found = {name: tf.convert_to_tensor(tensor) for name, tensor in self.function(inputs).items()}
        self.dtypes = {name: tensor.dtype for name, tensor in found.items()}
        rows = tf.shape(next(iter(inputs.values())))[0]
        return {name: self._stored(tensor, rows) for name, tensor in found.items()}

    @staticmethod
    def _stored(tensor, rows):
        if tensor.dtype == tf.float64:
            tensor = tf.bitcast(tensor, tf.int64)
        if tensor.shape.rank and tensor.shape[0] is None:
            return tensor
        return tf.repeat(tensor[None], rows, axis=0)

    def back(self, found):
        """What the function gave, of what the transform gives."""
        return {
            name: array.view(np.float64) if self.dtypes[name] == tf.float64 else array for name, array in found.items()
        }


def transform(function, columns, *, cuts=(), options=(), rows=None):
    """What a `preprocessing_fn` makes of rows, after an analysis of them.

    Args:
        function: The function; it may give float64 and statistics, which are there once for each row.
        columns: Name → array `[rows, ...]`.
        cuts: Where the rows are cut into batches.
        options: Of Beam.
        rows: Other rows to transform; None for the same.

    Returns:
        Name → array.
    """
    adapter, storable = adapter_config(columns), Storable(function)
    with tempfile.TemporaryDirectory() as directory:
        with (
            tft_beam.Context(temp_dir=f"{directory}/analysis", use_deep_copy_optimization=True),
            beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(list(options))) as pipeline,
        ):
            batches = pipeline | beam.Create(batches_of(columns, cuts, adapter.arrow_schema), reshuffle=False)
            learned = (batches, adapter) | tft_beam.AnalyzeDataset(storable)
            _ = learned | tft_beam.WriteTransformFn(f"{directory}/out")
        layer = tft.TFTransformOutput(f"{directory}/out").transform_features_layer()
        found = layer(as_tensors(columns if rows is None else rows))
        return storable.back({name: tensor.numpy() for name, tensor in found.items()})
