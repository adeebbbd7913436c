"""Turns serialized records into tensors of rows: the inverse of the encoding that `loaders.format.spec` names.

A *block* is a dict of one tensor for each feature's name, as the rows pass through the pipeline: [rows, *shape] in the
feature's dtype; but a ragged feature is one string of bytes for each row, which `tensorflow.ragged` decodes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from loaders.format.spec import FeatureSpec
from loaders.reading import columns

Tensors = dict[str, Any]

SMALL_BYTES = 64
"""Up to how many bytes of a row a copy costs less than tracing how to do without it."""

# tf.io.decode_raw has no kernel for these; the bits are the same.
_DECODED_AS = {"uint32": "int32", "uint64": "int64"}


def decode_bytes(strings: tf.Tensor, dtype: str) -> tf.Tensor:
    """Reads little-endian bytes as values.

    Args:
        strings: Strings of equal length, any shape.
        dtype: One of `loaders.format.spec.DTYPES`, but not `string`.

    Returns:
        Tensor of `dtype`, the shape of `strings` with one more axis.
    """
    values = tf.io.decode_raw(strings, _DECODED_AS.get(dtype, dtype))
    return tf.bitcast(values, dtype) if dtype in _DECODED_AS else values


def parse_row_groups(records: tf.Tensor, rows: tf.Tensor, *, features: Sequence[FeatureSpec], full: int) -> Tensors:
    """Parses records that hold many rows each, all at once.

    Args:
        records: Serialized `tf.train.Example`s, strings of shape [records].
        rows: How many rows they hold together, an int64 scalar.
        features: The features to read; those left out are not decoded.
        full: How many rows a full record holds, at least 2; any may hold fewer.

    Returns:
        The block of their rows.

    Raises:
        tf.errors.InvalidArgumentError: When run, if a feature is missing or holds another number of elements.
    """
    whole: dict[str, FeatureSpec] = {}
    listed: list[tuple[str, tf.DType]] = []
    for feature in features:
        count, dtype = _list_of(feature, full)
        if count is None:
            whole[feature.name] = feature
        else:
            listed.append((feature.name, dtype))
    # The values of a list come one after the other, however many each record has.
    parsed = tf.raw_ops.ParseExampleV2(
        serialized=records,
        names=tf.constant([], tf.string),
        sparse_keys=tf.constant([], tf.string),
        dense_keys=tf.constant([*whole], tf.string),
        ragged_keys=tf.constant([name for name, _ in listed], tf.string),
        dense_defaults=[tf.constant([], tf.string)] * len(whole),
        num_sparse=0,
        sparse_types=[],
        ragged_value_types=[dtype for _, dtype in listed],
        ragged_split_types=[tf.int64] * len(listed),
        dense_shapes=[[]] * len(whole),
    )
    names = [*whole, *(name for name, _ in listed)]
    values = dict(zip(names, [*parsed.dense_values, *parsed.ragged_values], strict=True))
    for name, feature in whole.items():
        values[name] = _values_of_records(values[name], rows, feature, full=full)
    return {feature.name: _as_rows(values[feature.name], feature, rows) for feature in features}


def _values_of_records(strings: tf.Tensor, rows: tf.Tensor, feature: FeatureSpec, *, full: int) -> tf.Tensor:
    """The values of records that hold one string of bytes each."""

    def joined() -> tf.Tensor:
        return decode_bytes(tf.raw_ops.ReduceJoin(inputs=strings, reduction_indices=tf.constant([0])), feature.dtype)

    if feature.row_bytes <= SMALL_BYTES:
        return joined()
    # Strings of one length are decoded without the copy.
    same = tf.equal(rows, tf.size(strings, out_type=tf.int64) * full)
    return tf.cond(same, lambda: tf.reshape(decode_bytes(strings, feature.dtype), [-1]), joined)


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
    shape = [rows, *(tf.constant(size, tf.int64) for size in block_shape(feature))]
    return tf.raw_ops.Reshape(tensor=values, shape=tf.raw_ops.Pack(values=shape))


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
    names, arrange = columns.roles(features, lengths=lengths)
    return tuple(f for f in features if f.name in names), arrange
