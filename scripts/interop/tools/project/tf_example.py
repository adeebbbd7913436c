"""tf.io.parse_example.

A line more: `tf.io.decode_raw` for features that are neither float32, int64 nor text
"""

import pathlib

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import schema_utils

schema = text_format.Parse(pathlib.Path("records/schema.pbtxt").read_text(), schema_pb2.Schema())
specs = schema_utils.schema_as_feature_spec(schema).feature_spec
files = tf.data.Dataset.list_files("records/train/*.tfrecord")
batches = list(tf.data.TFRecordDataset(files).batch(16).map(lambda records: tf.io.parse_example(records, specs)))
numbers = tf.io.decode_raw(batches[0]["axes_uint16"], tf.uint16)

# What follows compares it.
from interop.records import decoded  # noqa: E402

import loaders  # noqa: E402

PACKAGE = "tensorflow"
columns = [decoded(batch, loaders.open("records").features) for batch in batches]
