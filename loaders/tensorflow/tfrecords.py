"""`loaders.tfrecords`: a pipeline of TensorFlow's own operations alone, which can be sent to other processes."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from loaders.format.manifest import Manifest, ManifestError
from loaders.format.spec import FeatureSpec
from loaders.reading import columns
from loaders.storage.files import read_manifest
from loaders.tensorflow.ragged import Tensors, decode_padded, from_uint8

FILES_AT_ONCE = 4


def tfrecords(
    root: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int,
    shuffle_buffer: int = 10_000,
    seed: int | None = None,
    features: Sequence[str] | None = None,
    as_supervised: bool = False,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """A pipeline of a split whose records each hold a row (`layout: interchange`), without any Python inside.

    It reads files by `TFRecordDataset`, shuffles as `tf.data` does, and parses. So `tf.data`'s service can run it in
    other processes, also with dynamic sharding, where each worker is given files. `loaders.load` is faster and has an
    order that is the same everywhere, but reads by Python in this process.

    Args:
        root: The directory of a finished build, where TensorFlow reads files.
        split: The name of a split.
        batch_size: The rows of a batch.
        shuffle_buffer: From how many rows the next one is drawn, besides the order of files; 0 for the rows as they are
            stored.
        seed: Of the shuffle; None for another one in each run.
        features: The names of the features; None for all.
        as_supervised: Whether elements are `(inputs, labels)`, as of `loaders.load`.
        drop_remainder: Whether a last, smaller batch is left out.

    Returns:
        Batches as `loaders.load` has them: tensors of shape [batch, *shape]; ragged features filled up with zeros,
        beside `<name>_length`. How many there are is not known to it.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        ValueError: If a record holds many rows, or shards hold features that the transform is still to be applied to.
    """
    path = os.fspath(root)
    # In a function that is traced, AutoGraph would try to convert the reading of a manifest, and warn that it cannot.
    manifest: Manifest = tf.autograph.experimental.do_not_convert(read_manifest)(root)
    _check(path, manifest, split)
    chosen = columns.choose(manifest.features, features)
    arrange = columns.Arrangement(chosen, supervised=as_supervised)
    paths = [posixpath.join(path, shard.file) for shard in manifest.shards(split) if shard.rows]
    files = tf.data.Dataset.from_tensor_slices(tf.constant(paths, tf.string))
    if shuffle_buffer:
        files = files.shuffle(max(len(paths), 1), seed=seed)
    records = files.interleave(
        tf.data.TFRecordDataset,
        cycle_length=FILES_AT_ONCE if shuffle_buffer else 1,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=seed is not None or not shuffle_buffer,
    )
    if shuffle_buffer:
        records = records.shuffle(shuffle_buffer, seed=seed)
    batches = records.batch(batch_size, drop_remainder=drop_remainder)
    return batches.map(lambda batch: arrange(_parse(batch, arrange.features)), tf.data.AUTOTUNE).prefetch(
        tf.data.AUTOTUNE
    )


def _check(path: str, manifest: Manifest, split: str) -> None:
    if split not in manifest.splits:
        raise ManifestError(f"{path}: expected one of the splits {', '.join(manifest.splits)}; found {split!r}")
    if manifest.rows_per_record > 1:
        found = f"records of {manifest.rows_per_record} rows"
        raise ValueError(f"{path}: expected a record for each row, as layout: interchange writes them; found {found}")
    if manifest.transformed is not None:
        raise ValueError(f"{path}: expected features as the transform gives them; found features of store: raw")


def _parse(records: tf.Tensor, features: Sequence[FeatureSpec]) -> Tensors:
    """Records, strings of shape [rows], as the tensors of features."""
    found = tf.io.parse_example(records, {spec.name: _form(spec) for spec in features})
    batch: Tensors = {}
    for spec in features:
        batch |= _decode(found[spec.name], spec)
    return batch


def _form(spec: FeatureSpec) -> Any:
    encoding = spec.encoding(rows_per_record=1)
    if encoding == "bytes_list" and spec.dtype != "string":
        return tf.io.FixedLenFeature((), tf.string)
    return tf.io.FixedLenFeature(spec.inner_shape, spec.dtype)


def _decode(values: tf.Tensor, spec: FeatureSpec) -> Tensors:
    if spec.ragged:
        return decode_padded(values, spec)
    if values.dtype == spec.dtype:
        return {spec.name: values}
    raw = tf.io.decode_raw(values, tf.uint8, fixed_length=spec.row_bytes)
    return {spec.name: tf.reshape(from_uint8(raw, spec.dtype), [-1, *spec.inner_shape])}
