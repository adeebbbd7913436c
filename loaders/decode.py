"""Turns serialized records into tensors of rows: the inverse of the encoding that `loaders.spec` names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from loaders.spec import FeatureSpec

Tensors = dict[str, Any]

# tf.io.decode_raw has no kernel for these; the bits are the same.
_DECODED_AS = {"uint32": "int32", "uint64": "int64"}


def decode_bytes(strings: tf.Tensor, dtype: str) -> tf.Tensor:
    """Reads little-endian bytes as values.

    Args:
        strings: Strings of equal length, any shape.
        dtype: One of `loaders.spec.DTYPES`.

    Returns:
        Tensor of `dtype`, the shape of `strings` with one more axis.
    """
    values = tf.io.decode_raw(strings, _DECODED_AS.get(dtype, dtype))
    return tf.bitcast(values, dtype) if dtype in _DECODED_AS else values


def parse_row_group(record: tf.Tensor, rows: tf.Tensor, *, features: Sequence[FeatureSpec], full: int) -> Tensors:
    """Parses one record that holds many rows.

    Args:
        record: A serialized `tf.train.Example`, a string scalar.
        rows: How many rows it holds, an int64 scalar.
        features: The features to read; those left out are not decoded.
        full: How many rows a full record holds, at least 2.

    Returns:
        A tensor of shape [rows, *shape] for each feature's name.

    Raises:
        tf.errors.InvalidArgumentError: When run, if a feature is missing or holds another number of elements.
    """
    encodings = {feature.name: feature.encoding(full) for feature in features}
    strings = {name: tf.io.FixedLenFeature([], tf.string) for name, kind in encodings.items() if kind == "bytes_list"}
    floats = [feature for feature in features if encodings[feature.name] == "float_list"]
    # A known length is parsed by one copy, at more than twice the speed of an unknown one.
    fixed = {feature.name: tf.io.FixedLenFeature([full * feature.row_elements], tf.float32) for feature in floats}
    short = {feature.name: tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True) for feature in floats}
    if floats:
        parsed = tf.cond(
            rows == full,
            lambda: tf.io.parse_single_example(record, strings | fixed),
            lambda: tf.io.parse_single_example(record, strings | short),
        )
    else:
        parsed = tf.io.parse_single_example(record, strings)
    return {feature.name: _as_rows(parsed[feature.name], feature, rows) for feature in features}


def parse_single_rows(records: tf.Tensor, *, features: Sequence[FeatureSpec]) -> Tensors:
    """Parses records of one row each, all at once.

    Args:
        records: Serialized `tf.train.Example`s, strings of shape [rows].
        features: The features to read; those left out are not decoded.

    Returns:
        A tensor of shape [rows, *shape] for each feature's name.

    Raises:
        tf.errors.InvalidArgumentError: When run, if a feature is missing or holds another number of elements.
    """
    types = {"float_list": tf.float32, "int64_list": tf.int64}
    parsed = tf.io.parse_example(
        records,
        {
            feature.name: tf.io.FixedLenFeature([], tf.string)
            if (kind := feature.encoding(1)) == "bytes_list"
            else tf.io.FixedLenFeature([feature.row_elements], types[kind])
            for feature in features
        },
    )
    rows = tf.size(records, out_type=tf.int64)
    return {feature.name: _as_rows(parsed[feature.name], feature, rows) for feature in features}


def arranger(
    features: Sequence[FeatureSpec], *, as_supervised: bool
) -> tuple[tuple[FeatureSpec, ...], Callable[..., Any]]:
    """How the features of a row become an element of the data set.

    Args:
        features: All features of the data set.
        as_supervised: Whether elements are `(inputs, labels)`, or `(inputs, labels, weights)` where a feature has the
            role of a weight; each is a tensor where one feature has that role, and a dict where many have. Otherwise
            an element is a dict of all features.

    Returns:
        The features that an element needs, and a function from a dict of their tensors to the element.

    Raises:
        ValueError: If an input or a label is asked for and there is none.
    """
    if not as_supervised:
        return tuple(features), lambda tensors: tensors
    names = {role: [f.name for f in features if f.role == role] for role in ("input", "label", "weight")}
    for role in ("input", "label"):
        if not names[role]:
            found = ", ".join(f"{f.name} ({f.role})" for f in features)
            raise ValueError(f"as_supervised expects a feature with the role {role!r}; found {found}")

    def arrange(tensors: Tensors) -> tuple[Any, ...]:
        return tuple(
            tensors[group[0]] if len(group) == 1 else {name: tensors[name] for name in group}
            for group in names.values()
            if group
        )

    return tuple(f for f in features if f.role in names), arrange


def _as_rows(values: tf.Tensor, feature: FeatureSpec, rows: tf.Tensor) -> tf.Tensor:
    if values.dtype == tf.string:
        values = decode_bytes(values, feature.dtype)
    shaped = tf.reshape(values, tf.concat([[rows], tf.constant(feature.shape, tf.int64)], 0))
    return tf.ensure_shape(shaped, [None, *feature.shape])
