"""Operations for the exported graph whose result for a row does not depend on the other rows of the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipelines.steps.lazy import tf

HASHES = 2**63 - 1
"""The number of values of a string's hash."""

STRINGS = 2**18
"""Strings that are hashed at once: as objects each takes some 50 bytes more."""

LANES = 64
"""At least how many values the kernels compute at once: with AVX-512, 4 times 8."""


def unfolded(constants: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Constants of which TensorFlow's graph optimizer does not know that they are constants.

    It would turn a division by a constant into a product with the reciprocal, and join products, which both round
    differently: the values would depend on whether a graph is optimized (a SavedModel) or not (in `tf.data`).

    Args:
        constants: `[n]`.
        like: `[batch, ...]`, an input of the graph.
    """
    # 0 whatever the values are, which the optimizer cannot see. A shape would not do: it may know the batch's.
    some = tf.reduce_any(tf.not_equal(like[:1], tf.zeros_like(like[:1])))
    nothing = tf.minimum(tf.cast(some, tf.int32), 0)
    return tf.slice(constants, [nothing], [tf.size(constants)])


def literal(value: float, like: tf.Tensor) -> tf.Tensor:
    """A float64 number, as in `unfolded`."""
    return unfolded(tf.constant([value], tf.float64), like)[0]


def sum_last(x: tf.Tensor) -> tf.Tensor:
    """The sum over the last axis, by halves.

    A kernel that reduces cuts the work by the shape of the whole batch, and another cut rounds differently. Sums of
    whole slices do not depend on it.

    Args:
        x: `[..., n]`, n at least 1 and known.

    Returns:
        `[..., 1]`.
    """
    size = x.shape[-1]
    while size > 1:
        half = size // 2
        folded = x[..., :half] + x[..., half : 2 * half]
        x = tf.concat([folded, x[..., 2 * half :]], -1) if size % 2 else folded
        size = half + size % 2
    return x


def flat_rows(x: tf.Tensor) -> tf.Tensor:
    """`[batch, *shape]` as `[batch, elements]`."""
    return tf.reshape(x, [-1, x.shape[1:].num_elements()])


def hash_strings(values: tf.Tensor) -> tf.Tensor:
    """FarmHash fingerprints of strings, int64 from 0 on; the same in every version of TensorFlow."""
    return tf.strings.to_hash_bucket_fast(values, HASHES)


def keys_of(values: Any) -> Any:
    """Strings as their hashes, as the graph computes them, and integers as int64."""
    if values.dtype.kind != "S":
        return values.astype(np.int64)
    keys = np.empty(values.shape, dtype=np.int64)
    with tf.device("/cpu:0"):
        for start in range(0, len(values), STRINGS):
            some = values[start : start + STRINGS]
            keys[start : start + STRINGS] = hash_strings(
                tf.constant(some.astype(object), tf.string, some.shape)
            ).numpy()
    return keys


def find(values: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where values stand among keys.

    Args:
        values: int64, any shape.
        keys: int64 `[n]`, ascending; n may be 0.

    Returns:
        The places, int64 of the shape of `values`, and whether the value is one of the keys. A place is below n, or 0.
    """
    flat = tf.reshape(values, [-1])
    places = count_below(keys[None], flat[None], strict=True)[0]
    last = tf.maximum(tf.size(keys, tf.int64) - 1, 0)
    places = tf.minimum(places, last)
    padded = tf.concat([keys, tf.zeros([tf.cast(tf.size(keys) == 0, tf.int32)], tf.int64)], 0)
    found = (tf.gather(padded, places) == flat) & (tf.size(keys) > 0)
    return tf.reshape(places, tf.shape(values)), tf.reshape(found, tf.shape(values))


def count_below(boundaries: tf.Tensor, values: tf.Tensor, *, strict: bool) -> tf.Tensor:
    """How many boundaries are below each value; `tf.searchsorted` for batches that may have no row.

    Args:
        boundaries: `[statistics, n]`, ascending.
        values: `[statistics, values]`; what NaN gets means nothing.
        strict: Whether a boundary that equals the value does not count.

    Returns:
        int64 `[statistics, values]`.
    """
    search = tf.raw_ops.LowerBound if strict else tf.raw_ops.UpperBound
    return search(sorted_inputs=boundaries, values=values, out_type=tf.int64)


def elementwise(function: Callable[..., tf.Tensor], *tensors: tf.Tensor) -> tf.Tensor:
    """A function of each value, computed by the same instructions whatever the size of the batch.

    Kernels compute a few values at once and the last ones of a tensor one by one, by another algorithm (`log1p` of a
    quarter of all numbers then differs in the last bit); so there are some more values than wanted.

    Args:
        function: Maps tensors of shape `[n]` to one, each value by itself; takes zeros.
        tensors: float64, all of one shape.
    """
    x = tensors[0]
    size = tf.size(x)
    padding = [[0, LANES + (-size) % LANES]]
    found = function(*(tf.pad(tf.reshape(tensor, [-1]), padding) for tensor in tensors))
    return tf.ensure_shape(tf.reshape(found[:size], tf.shape(x)), x.shape)


def by_column(x: tf.Tensor, axes: tuple[int, ...]) -> tuple[tf.Tensor, list[int], tf.Tensor]:
    """Puts the values of each statistic together.

    Args:
        x: `[batch, *shape]`.
        axes: The row axes that have statistics of their own, ascending.

    Returns:
        `[statistics, values]`, and what `from_columns` needs to go back.
    """
    order = [axis + 1 for axis in axes]
    order += [axis for axis in range(x.shape.rank) if axis not in order]
    turned = tf.transpose(x, order)
    count = 1
    for axis in axes:
        count *= x.shape[axis + 1]
    return tf.reshape(turned, [count, -1]), order, tf.shape(turned)


def from_columns(columns: tf.Tensor, order: list[int], shape: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """The inverse of `by_column`, in the static shape of `like`."""
    back = [order.index(axis) for axis in range(len(order))]
    return tf.ensure_shape(tf.transpose(tf.reshape(columns, shape), back), like.shape)


def group_keys(by: tf.Tensor) -> tf.Tensor:
    """The key of each row's group, int64: a string's hash, or the number itself."""
    return hash_strings(by) if by.dtype == tf.string else tf.cast(by, tf.int64)


def of_groups(constants: Mapping[str, tf.Tensor], keys: tf.Tensor) -> dict[str, tf.Tensor]:
    """The constants of each row's group.

    Args:
        constants: `keys`, int64 `[groups]`, ascending, and others of `groups + 1` along the first axis, whose last
            place is for rows of groups that were not seen.
        keys: int64 `[batch]`.
    """
    places, known = find(keys, constants["keys"])
    places = tf.where(known, places, tf.size(constants["keys"], tf.int64))
    return {name: tf.gather(array, places) for name, array in constants.items() if name != "keys"}
