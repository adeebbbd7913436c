"""TFRecords by hand: one `tf.train.Example` a row, written in a loop of Python and parsed row by row."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from peers.data import Rows

PACKAGES = ("tensorflow", "numpy")
FILES = 8


def write(rows: Rows, out: pathlib.Path) -> None:
    """Writes floats as a `float_list`, anything else as bytes, as tensorflow.org/tutorials/load_data/tfrecord does."""
    out.mkdir(parents=True)
    writers = [tf.io.TFRecordWriter(str(out / f"rows-{number}.tfrecord")) for number in range(FILES)]
    number = 0
    for values, labels in rows.blocks():
        for value, label in zip(values, labels, strict=True):
            if rows.dtype == "float32":
                feature = tf.train.Feature(float_list=tf.train.FloatList(value=value.ravel()))
            else:
                feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.tobytes()]))
            features = {
                rows.feature: feature,
                "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writers[number % FILES].write(example.SerializeToString())
            number += 1
    for writer in writers:
        writer.close()


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """Parses every row by itself, then shuffles and batches."""
    floats = rows.dtype == "float32"
    spec = {
        rows.feature: tf.io.FixedLenFeature(rows.shape if floats else [], tf.float32 if floats else tf.string),
        "labels": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = tf.io.parse_single_example(record, spec)
        value = row[rows.feature]
        return value if floats else tf.reshape(tf.io.decode_raw(value, rows.dtype), rows.shape), row["labels"]

    files = sorted(str(path) for path in out.iterdir() if path.is_file())
    dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=0)
    dataset = dataset.interleave(tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    yield from dataset.shuffle(rows.window, seed=0).batch(batch).prefetch(tf.data.AUTOTUNE)
