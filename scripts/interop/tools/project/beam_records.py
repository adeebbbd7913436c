"""Beam's ReadFromTFRecord.

A line more: `tf.io.decode_raw`, as of `tf.io.parse_example`
"""

import apache_beam as beam
import tensorflow as tf

with beam.Pipeline() as pipeline:
    records = pipeline | beam.io.ReadFromTFRecord("records/train/*.tfrecord")
    examples = records | beam.Map(tf.train.Example.FromString)
    _ = examples | beam.Map(lambda example: example.SerializeToString()) | beam.io.WriteToTFRecord("beam")

# What follows compares it.
import pathlib

from interop.records import decoded

import loaders

PACKAGE = "apache-beam"
specs = loaders.open("records").features
found = tf.data.TFRecordDataset(sorted(map(str, pathlib.Path().glob("beam-*")))).as_numpy_iterator()
columns = []
for record in found:
    fields = tf.train.Example.FromString(record).features.feature
    kinds = {name: getattr(field, field.WhichOneof("kind")).value for name, field in fields.items()}
    columns.append(decoded({name: [list(values)] for name, values in kinds.items()}, specs))
