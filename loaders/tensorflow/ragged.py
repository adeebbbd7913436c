"""Rows of varying length: decoded from their bytes, padded, and put in batches of rows of like length."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from loaders.format.spec import FeatureSpec
from loaders.reading.columns import LENGTH_SUFFIX

Tensors = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Buckets:
    """Which rows may be in one batch, by the lengths of a ragged feature.

    Bucket number i holds the rows whose length is at most `boundaries[i]`, which ascend, and no less than the bucket
    before it ends; one more holds all that are longer.
    """

    feature: FeatureSpec
    boundaries: tuple[int, ...]


def make_buckets(
    features: Sequence[FeatureSpec], boundaries: Sequence[int] | None, *, by: str | None
) -> Buckets | None:
    """The buckets that are asked for by the options `bucket_boundaries` and `bucket_by`.

    Raises:
        ValueError: If the boundaries do not ascend, or no or several features are meant.
    """
    if boundaries is None:
        if by is not None:
            raise ValueError(f"bucket_by needs bucket_boundaries; found bucket_by {by!r} alone")
        return None
    found = tuple(boundaries)
    if not found or found[0] < 1 or any(low >= high for low, high in itertools.pairwise(found)):
        raise ValueError(
            f"bucket_boundaries are lengths in ascending order, the first at least 1; found {list(boundaries)}"
        )
    ragged = {feature.name: feature for feature in features if feature.ragged}
    if by is None and len(ragged) == 1:
        (by,) = ragged
    if by not in ragged:
        names = ", ".join(ragged) or "none"
        raise ValueError(f"bucket_by is one of the features whose rows differ in length ({names}); found {by!r}")
    return Buckets(feature=ragged[by], boundaries=found)


def lengths(strings: tf.Tensor, feature: FeatureSpec) -> tf.Tensor:
    """The lengths of rows, strings of shape [rows], along the axis that varies: int32 of shape [rows]."""
    return tf.strings.length(strings) // feature.step_bytes


def decode_padded(strings: tf.Tensor, feature: FeatureSpec, *, boundaries: Sequence[int] = ()) -> Tensors:
    """Decodes rows, strings of shape [rows], into one tensor, filled up with zeros.

    Returns:
        `<name>`, of shape [rows, length, *inner shape], and `<name>_length`, int64 of shape [rows]. The length is the
        first of the boundaries that is long enough for all rows; if there is none, that of the longest row.
    """
    rows = lengths(strings, feature)
    longest = tf.reduce_max(tf.concat([rows, [0]], 0))
    limits = tf.concat([tf.constant(list(boundaries), tf.int32), [longest]], 0)
    length = limits[tf.searchsorted(limits[:-1], [longest])[0]] if boundaries else longest
    step = feature.step_bytes
    # The operation wants at least one byte.
    raw = tf.io.decode_raw(strings, tf.uint8, fixed_length=tf.maximum(length, 1) * step)[:, : length * step]
    values = from_uint8(raw, feature.dtype)
    shape = [tf.shape(strings)[0], length, *feature.inner_shape]
    values = tf.ensure_shape(tf.reshape(values, shape), [strings.shape[0], None, *feature.inner_shape])
    return {feature.name: values, feature.name + LENGTH_SUFFIX: tf.cast(rows, tf.int64)}


def decode_ragged(strings: tf.Tensor, feature: FeatureSpec) -> tf.RaggedTensor:
    """Decodes rows, strings of shape [rows], into a `tf.RaggedTensor` of shape [rows, None, *inner shape]."""
    raw = tf.io.decode_raw(tf.strings.reduce_join(strings), tf.uint8)
    values = tf.reshape(from_uint8(raw, feature.dtype), [-1, *feature.inner_shape])
    return tf.RaggedTensor.from_row_lengths(values, tf.cast(lengths(strings, feature), tf.int64), validate=False)


def from_uint8(raw: tf.Tensor, dtype: str) -> tf.Tensor:
    """Little-endian bytes as values: uint8 of shape [..., n * size] to `dtype` of shape [..., n].

    `tf.io.decode_raw` fills up with zeros only in some dtypes.
    """
    if dtype == "bool":
        return tf.cast(raw, tf.bool)
    size = tf.as_dtype(dtype).size
    if size == 1:
        return tf.bitcast(raw, dtype)
    shape = tf.shape(raw)
    return tf.bitcast(tf.reshape(raw, tf.concat([shape[:-1], [shape[-1] // size, size]], 0)), dtype)


def bucketed(blocks: tf.data.Dataset, buckets: Buckets, *, batch_size: int, drop_remainder: bool) -> tf.data.Dataset:
    """Cuts the rows of an epoch into batches of one bucket each.

    The rows go to their buckets in their order, and a batch comes when its bucket has as many rows as a batch has. At
    the end come the rows that are left, a batch for each bucket, in the buckets' order.

    Blocks, dicts of tensors of shape [rows, …], may have any size, and come out with at most `batch_size` rows. How
    many there are depends on the lengths.
    """
    nothing = {name: tf.zeros([0, *spec.shape[1:]], spec.dtype) for name, spec in blocks.element_spec.items()}

    def step(left: Tensors, item: tuple[Tensors, tf.Tensor]) -> tuple[Tensors, tuple[Tensors, tf.Tensor]]:
        block, last = item
        rows = {name: tf.concat([left[name], block[name]], 0) for name in left}
        places, ends, used = _deal(rows[buckets.feature.name], buckets, batch_size, last & (not drop_remainder))
        emitted = {name: tf.gather(values, places[:used]) for name, values in rows.items()}
        # What is left stays in its order, within a bucket, which is all that matters.
        return {name: tf.gather(values, places[used:]) for name, values in rows.items()}, (emitted, ends)

    end = tf.data.Dataset.from_tensors((nothing, True))
    items = blocks.map(lambda block: (block, False)).concatenate(end)
    size = batch_size if drop_remainder else None
    return items.scan(nothing, step).flat_map(lambda rows, ends: _slices(rows, ends, size))


def _deal(
    strings: tf.Tensor, buckets: Buckets, batch_size: int, close: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Deals rows, those of the feature that decides, to batches; `close` lets buckets that are not full give one too.

    Returns:
        The rows in the order of their batches, int32 of shape [rows]; where each batch ends in it; and where the last
        one does. Rows after that are in no batch yet.
    """
    bucket = tf.searchsorted(tf.constant(buckets.boundaries, tf.int32), lengths(strings, buckets.feature))
    rows = tf.size(bucket)
    by_bucket = tf.argsort(bucket, stable=True)
    sizes = tf.math.bincount(bucket, minlength=len(buckets.boundaries) + 1)
    first = tf.cumsum(sizes, exclusive=True)
    number = tf.gather(bucket, by_bucket)
    rank = tf.range(rows) - tf.gather(first, number)
    batch = rank // batch_size
    full = batch < tf.gather(sizes // batch_size, number)
    # A full batch comes when its last row does; then, by bucket, come those that are closed, and then what stays.
    last_rank = tf.minimum((batch + 1) * batch_size, tf.gather(sizes, number)) - 1
    last_row = tf.gather(by_bucket, tf.gather(first, number) + last_rank)
    key = tf.where(full, last_row, rows + number)
    order = tf.argsort(key, stable=True)
    used = tf.where(close, rows, tf.reduce_sum(tf.cast(full, tf.int32)))
    key = tf.gather(key, order)[:used]
    ends = tf.where(tf.concat([key[1:] != key[:-1], tf.ones([tf.minimum(used, 1)], tf.bool)], 0))[:, 0] + 1
    return tf.gather(by_bucket, order), ends, used


def _slices(rows: Tensors, ends: tf.Tensor, size: int | None) -> tf.data.Dataset:
    """A block of `size` rows, or of any size, up to each of the ends in `rows`."""

    def cut(start: tf.Tensor, end: tf.Tensor) -> Tensors:
        return {name: tf.ensure_shape(values[start:end], [size, *values.shape[1:]]) for name, values in rows.items()}

    starts = tf.concat([[tf.constant(0, tf.int64)], ends], 0)[: tf.size(ends)]
    return tf.data.Dataset.from_tensor_slices((starts, ends)).map(cut)
