"""The canonical tf.transform pipeline: dicts of rows, `AnalyzeAndTransformDataset`, `WriteToTFRecord`."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from peers.data import Data, Kind
from peers.tfrecord import load

__all__ = ["PACKAGES", "build", "load"]

PACKAGES = ("tensorflow-transform", "apache-beam", "tensorflow")


def build(data: Data, out: pathlib.Path, *, variant: str) -> None:
    """Builds as tensorflow.org/tfx/tutorials/transform does, on the direct runner."""
    out.mkdir(parents=True)
    kind = data.kind
    dtype = tf.float32 if kind.dtype == "float32" else tf.int64
    spec = {
        kind.feature: tf.io.FixedLenFeature(kind.shape, dtype),
        "labels": tf.io.FixedLenFeature([], tf.int64),
    }
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))

    with tempfile.TemporaryDirectory(dir=out) as temporary, beam.Pipeline() as pipeline, tft_beam.Context(temporary):
        rows = pipeline | beam.Create(range(len(data.counts))) | beam.FlatMap(_rows, data)
        (transformed, _), _ = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(
            preprocess(kind), output_record_batches=True
        )
        encoder = RecordBatchToExamplesEncoder()
        records = transformed | "Encode" >> beam.FlatMapTuple(lambda batch, _: encoder.encode(batch))
        _ = records | beam.io.WriteToTFRecord(str(out / "rows"), file_name_suffix=".tfrecord")


def preprocess(kind: Kind) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """The `preprocessing_fn`: missing values become the mean, and then columns or channels are scaled."""

    def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        values = tf.cast(inputs[kind.feature], tf.float32)
        if kind.dtype == "float32":
            mean = tft.mean(values, reduce_instance_dims=False)
            values = tf.where(tf.math.is_nan(values), mean, values)
        if len(kind.shape) == 1:
            scores = tft.scale_to_z_score(values, elementwise=True)
        else:
            scores = tf.stack([tft.scale_to_z_score(channel) for channel in tf.unstack(values, axis=-1)], axis=-1)
        return {kind.feature: scores, "labels": inputs["labels"]}

    return preprocessing_fn


def _rows(part: int, data: Data) -> Iterator[dict[str, Any]]:
    values, labels = data.arrays(part)
    integer = data.kind.dtype != "float32"
    for some, classes in zip(values, labels, strict=True):
        for value, label in zip(some.reshape(-1, *data.kind.shape), classes.reshape(-1), strict=True):
            yield {data.kind.feature: value.astype("int64") if integer else value, "labels": label}
