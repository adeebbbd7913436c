"""Writes small data sets with TensorFlow's own encoder, the reference for the on-disk contract."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np
import tensorflow as tf

from loaders.format import names
from loaders.format.manifest import Manifest, Shard
from loaders.format.spec import FeatureSpec

Rows = Mapping[str, Any]

FRAMING = 16


def specs(rows: Rows, roles: Mapping[str, Any] | None = None, **fields: Any) -> tuple[FeatureSpec, ...]:
    """The features that arrays of shape [rows, *shape] stand for."""
    return tuple(
        FeatureSpec(
            name=name,
            dtype=rows[name].dtype.name,
            shape=rows[name].shape[1:],
            role=(roles or {}).get(name, "input"),
            **fields.get(name, {}),
        )
        for name in sorted(rows)
    )


def encode(rows: Rows, features: Sequence[FeatureSpec], rows_per_record: int) -> bytes:
    """One record that holds all of `rows`."""
    entries = b""
    for feature in sorted(features, key=lambda feature: feature.name):
        values = rows[feature.name]
        entry = tf.train.Features()
        target = entry.feature[feature.name]
        if feature.ragged:
            target.bytes_list.value.extend(np.asarray(row, feature.numpy_dtype).tobytes() for row in values)
        elif feature.dtype == "string":
            target.bytes_list.value.extend(values.ravel().tolist())
        elif (encoding := feature.encoding(rows_per_record)) == "bytes_list":
            target.bytes_list.value.append(values.astype(feature.numpy_dtype).tobytes())
        else:
            getattr(target, encoding).value.extend(values.ravel().tolist())
        # One by one, for protobuf does not put a name before one that begins with it.
        entries += entry.SerializeToString()
    features_of_one = tf.train.Features()
    features_of_one.ParseFromString(entries)
    example = tf.train.Example(features=features_of_one).SerializeToString()
    return bytes(example[: len(example) - len(entries)] + entries)


def write(
    root: pathlib.Path,
    splits: Mapping[str, Sequence[Rows]],
    *,
    rows_per_record: int,
    features: Sequence[FeatureSpec],
    chunk_records: int | None = None,
    **manifest_fields: Any,
) -> Manifest:
    """Writes a data set: for each split, the rows of each shard.

    Rows of a ragged feature are a list of arrays.
    """
    features = sorted(features, key=lambda feature: feature.name)  # as a manifest has them
    record_bytes = None
    if chunk_records is None:
        template = {f.name: np.full((rows_per_record, *f.inner_shape), -1).astype(f.dtype) for f in features}
        record_bytes = len(encode(template, features, rows_per_record)) + FRAMING
    shards = {}
    for split, parts in splits.items():
        (root / split).mkdir(parents=True)
        shards[split] = tuple(
            _write_shard(
                root,
                f"{split}/{split}-{number:05d}.tfrecord",
                rows,
                features,
                rows_per_record=rows_per_record,
                record_bytes=record_bytes,
                chunk_records=chunk_records,
            )
            for number, rows in enumerate(parts)
        )
    fields = {"files": (), "transform": None, "config": {}} | manifest_fields
    manifest = Manifest(
        features=tuple(features),
        splits=shards,
        rows_per_record=rows_per_record,
        record_bytes=record_bytes,
        chunk_records=chunk_records,
        seed=0,
        source_fingerprint="",
        versions={},
        **fields,
    )
    (root / names.MANIFEST).write_text(manifest.dumps())
    return manifest


def _write_shard(
    root: pathlib.Path,
    file: str,
    rows: Rows,
    features: Sequence[FeatureSpec],
    *,
    rows_per_record: int,
    record_bytes: int | None,
    chunk_records: int | None,
) -> Shard:
    count, ends = len(next(iter(rows.values()))), [0]
    with tf.io.TFRecordWriter(str(root / file)) as writer:
        for start in range(0, count, rows_per_record):
            part = {name: values[start : start + rows_per_record] for name, values in rows.items()}
            record = encode(part, features, rows_per_record)
            if record_bytes and start + rows_per_record <= count:
                assert len(record) + FRAMING == record_bytes, "the values of an int64_list differ in length"
            writer.write(record)
            ends.append(ends[-1] + len(record) + FRAMING)
    offsets = tuple(ends[:-1][::chunk_records]) if chunk_records else None
    return Shard(file=file, rows=count, bytes=ends[-1], crc32c=_crc32c(root / file), offsets=offsets)


def _crc32c(path: pathlib.Path) -> str:
    return f"{google_crc32c.value(path.read_bytes()):08x}"


def relist(root: pathlib.Path) -> None:
    """Lets the manifest list shards of other content: for tests of what only a record's own checks find."""
    path = root / names.MANIFEST
    manifest = Manifest.loads(path.read_bytes())
    splits = {
        split: tuple(dataclasses.replace(shard, crc32c=_crc32c(root / shard.file)) for shard in listed)
        for split, listed in manifest.splits.items()
    }
    path.write_text(dataclasses.replace(manifest, splits=splits).dumps())
