"""tf.transform as an expert writes it: columnar Arrow batches, rows read again for each phase, threads."""

from __future__ import annotations

import math
import pathlib
import tempfile
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from peers.data import Data
from peers.tfrecord import load
from peers.tft import preprocess

__all__ = ["PACKAGES", "build", "load"]

PACKAGES = ("tensorflow-transform", "apache-beam", "tensorflow")


def build(data: Data, out: pathlib.Path, *, variant: str) -> None:
    """Builds with so many threads as the variant says, on the direct runner of this process."""
    out.mkdir(parents=True)
    kind, floats = data.kind, data.kind.dtype == "float32"

    shapes = {kind.feature: kind.shape, "labels": ()}
    dtypes = {kind.feature: pa.float32() if floats else pa.int64(), "labels": pa.int64()}
    schema = pa.schema([pa.field(name, pa.large_list(dtypes[name])) for name in shapes])
    adapter = TensorAdapterConfig(schema, {name: _dense(name, shape) for name, shape in shapes.items()})
    options = PipelineOptions([f"--direct_num_workers={variant}", "--direct_running_mode=multi_threading"])
    with (
        tempfile.TemporaryDirectory(dir=out) as temporary,
        beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline,
        tft_beam.Context(temporary, use_deep_copy_optimization=True),
    ):
        # No Reshuffle: deep copies end there, and the rows would be held between the phases.
        batches = pipeline | beam.Create(data.ranges(), reshuffle=False) | beam.Map(_batch, data, schema)
        (transformed, _), _ = (batches, adapter) | tft_beam.AnalyzeAndTransformDataset(
            preprocess(kind), output_record_batches=True
        )
        encoder = RecordBatchToExamplesEncoder()
        records = transformed | "Encode" >> beam.FlatMapTuple(lambda batch, _: encoder.encode(batch))
        _ = records | beam.io.WriteToTFRecord(str(out / "rows"), file_name_suffix=".tfrecord")


def _dense(name: str, shape: tuple[int, ...]) -> Any:
    representation = schema_pb2.TensorRepresentation()
    representation.dense_tensor.column_name = name
    representation.dense_tensor.shape.SetInParent()
    for size in shape:
        representation.dense_tensor.shape.dim.add().size = size
    return representation


def _batch(place: tuple[int, int, int], data: Data, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of one range of the sources as flat lists."""
    values, labels = data.read(*place)
    columns = []
    for column, field in zip((values, labels), schema, strict=True):
        flat = column.reshape(-1).astype(field.type.value_type.to_pandas_dtype(), copy=False)
        offsets = np.arange(len(column) + 1, dtype=np.int64) * math.prod(column.shape[1:])
        columns.append(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, field.type.value_type)))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
