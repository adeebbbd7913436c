"""Turns serialized records into tensors of rows: the inverse of the encoding that `loaders.spec` names.

A *block* is a dict of one tensor for each feature's name, as the rows pass through the pipeline: [rows, *shape] in the
feature's dtype; but a ragged feature is one string of bytes for each row, which `loaders.ragged` decodes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from loaders import elements
from loaders.spec import FeatureSpec

Tensors = dict[str, Any]

# tf.io.decode_raw has no kernel for these; the bits are the same.
_DECODED_AS = {"uint32": "int32", "uint64": "int64"}


def decode_bytes(strings: tf.Tensor, dtype: str) -> tf.Tensor:
    """Reads little-endian bytes as values.

    Args:
        strings: Strings of equal length, any shape.
        dtype: One of `loaders.spec.DTYPES`, but not `string`.

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
        The block of its rows.

    Raises:
        tf.errors.InvalidArgumentError: When run, if a feature is missing or holds another number of elements.
    """
    whole, listed = {}, {}
    for feature in features:
        count, dtype = _list_of(feature, full)
        if count is None:
            whole[feature.name] = tf.io.FixedLenFeature([], tf.string)
        else:
            listed[feature.name] = (full * count, dtype)
    # A known length is parsed by one copy, at more than twice the speed of an unknown one.
    fixed = {name: tf.io.FixedLenFeature([count], dtype) for name, (count, dtype) in listed.items()}
    short = {name: tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True) for name, (_, dtype) in listed.items()}
    if listed:
        parsed = tf.cond(
            rows == full,
            lambda: tf.io.parse_single_example(record, whole | fixed),
            lambda: tf.io.parse_single_example(record, whole | short),
        )
    else:
        parsed = tf.io.parse_single_example(record, whole)
    return {feature.name: _as_rows(parsed[feature.name], feature, rows) for feature in features}


def parse_single_rows(records: tf.Tensor, *, features: Sequence[FeatureSpec]) -> Tensors:
    """Parses records of one row each, all at once.

    Args:
        records: Serialized `tf.train.Example`s, strings of shape [rows].
        features: The features to read; those left out are not decoded.

    Returns:
        The block of their rows.

    Raises:
        tf.errors.InvalidArgumentError: When run, if a feature is missing or holds another number of elements.
    """
    lists = {feature.name: _list_of(feature, 1) for feature in features}
    parsed = tf.io.parse_example(
        records,
        {
            name: tf.io.FixedLenFeature([] if count is None else [count], dtype)
            for name, (count, dtype) in lists.items()
        },
    )
    rows = tf.size(records, out_type=tf.int64)
    return {feature.name: _as_rows(parsed[feature.name], feature, rows) for feature in features}


def _list_of(feature: FeatureSpec, full: int) -> tuple[int | None, tf.DType]:
    """How many elements of which dtype the list of a `tf.train.Feature` has for each row; None: one string for all."""
    encoding = feature.encoding(full)
    if encoding == "bytes_list":
        # A row is one string of a ragged feature, and one for each element of a string feature.
        count = None if not feature.variable else 1 if feature.ragged else feature.row_elements
        return count, tf.string
    return feature.row_elements, {"float_list": tf.float32, "int64_list": tf.int64}[encoding]


def block_shape(feature: FeatureSpec) -> tuple[int, ...]:
    """The shape of a row in a block."""
    return () if feature.ragged else feature.inner_shape


def _as_rows(values: tf.Tensor, feature: FeatureSpec, rows: tf.Tensor) -> tf.Tensor:
    if values.dtype == tf.string and not feature.variable:
        values = decode_bytes(values, feature.dtype)
    shape = block_shape(feature)
    shaped = tf.reshape(values, tf.concat([[rows], tf.constant(shape, tf.int64)], 0))
    return tf.ensure_shape(shaped, [None, *shape])


def arranger(
    features: Sequence[FeatureSpec], *, as_supervised: bool, lengths: Iterable[str] = ()
) -> tuple[tuple[FeatureSpec, ...], Callable[..., Any]]:
    """How the features of a row become an element of the data set.

    Args:
        features: All features of a batch.
        as_supervised: Whether elements are `(inputs, labels)`, or `(inputs, labels, weights)` where a feature has the
            role of a weight; each is a tensor where one feature has that role, and a dict where many have. Otherwise
            an element is a dict of all features.
        lengths: The features whose lengths are in a batch too; they count as two.

    Returns:
        The features that an element needs, and a function from a dict of their tensors to the element.

    Raises:
        ValueError: If an input or a label is asked for and there is none.
    """
    if not as_supervised:
        return tuple(features), lambda tensors: tensors
    names, arrange = elements.roles(features, lengths=lengths)
    return tuple(f for f in features if f.name in names), arrange
