"""Operations for the exported graph whose result for a row does not depend on the other rows of the batch.

The module is what `step_formulas` calls `ops`, as `loaders.transform.ops.ArrayOps` is outside of a graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipelines.lazy import Lazy, tf

gaussianization = Lazy("tensorflow_transform.gaussianization")

HASHES = 2**63 - 1
"""The number of values of a string's hash."""

STRINGS = 2**18
"""Strings that are hashed at once: as objects each takes some 50 bytes more."""

LANES = 64
"""At least how many values the kernels compute at once: with AVX-512, 4 times 8."""


SAME = ("abs", "maximum", "minimum", "ones_like", "reshape", "shape", "sqrt", "transpose", "where", "zeros_like")
OF_TENSORFLOW = {
    **{name: name for name in SAME},
    "isnan": "math.is_nan",
    "clip": "clip_by_value",
    "divide_no_nan": "math.divide_no_nan",
}
"""The operations that TensorFlow has, each with its name there."""

CALLS: Mapping[str, Callable[..., tf.Tensor]] = {
    "any_last": lambda x: tf.reduce_any(x, -1),
    "cast_like": lambda x, like: tf.cast(x, like.dtype),
    "concat_last": lambda parts: tf.concat(parts, -1),
    "constant": lambda value, _: tf.constant(value, tf.float64),  # that is computed with nothing
    "ensure_shape": lambda x, like: tf.ensure_shape(x, like.shape),
    "float64": lambda x: tf.cast(x, tf.float64),
    "identity": lambda size: tf.eye(size, dtype=tf.float64),
    "length": lambda x: tf.shape(x, out_type=tf.int64)[-1],
    "log1p": lambda x: elementwise(tf.math.log1p, x),
    "ndtri": lambda x: elementwise(tf.math.ndtri, x),
    "one_hot": lambda x, classes: tf.one_hot(tf.cast(x, tf.int64), classes, dtype=tf.float64),
    "solve_positive": lambda a, b: tf.linalg.cholesky_solve(tf.linalg.cholesky(a), b),
    "take_by_row": lambda values, places: tf.gather(values, places, batch_dims=1),
}
"""Those that are one call of TensorFlow; `ArrayOps` says what each is."""


def __getattr__(name: str) -> Any:
    if name in CALLS:
        return CALLS[name]
    if name in OF_TENSORFLOW:
        return operator.attrgetter(OF_TENSORFLOW[name])(tf)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def unfolded(constants: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Constants, `[n]`, of which TensorFlow's graph optimizer does not know that they are constants.

    It would turn a division by a constant into a product with the reciprocal, and join products, which both round
    differently: the values would depend on whether a graph is optimized (a SavedModel) or not (in `tf.data`). So they
    are made to depend on `like`, an input of the graph.
    """
    # 0 whatever the values are, which the optimizer cannot see. A shape would not do: it may know the batch's.
    some = tf.reduce_any(tf.not_equal(like[:1], tf.zeros_like(like[:1])))
    nothing = tf.minimum(tf.cast(some, tf.int32), 0)
    return tf.slice(constants, [nothing], [tf.size(constants)])


def literal(value: float, like: tf.Tensor) -> tf.Tensor:
    """A float64 number, as in `unfolded`."""
    return unfolded(tf.constant([value], tf.float64), like)[0]


def replace_rows(
    x: tf.Tensor, chosen: tf.Tensor, function: Callable[[tf.Tensor], tf.Tensor], together: int
) -> tf.Tensor:
    """`[batch, n]` with the result of a function for the rows that are chosen, so many of them at a time."""
    rows = tf.where(chosen)[:, 0]

    def replace(start: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        some = rows[start : start + together]
        replaced = tf.tensor_scatter_nd_update(done, some[:, None], function(tf.gather(done, some)))
        return start + tf.size(some), replaced

    return tf.while_loop(
        lambda start, _: start < tf.size(rows),
        replace,
        (0, x),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, x.shape[-1]])),
        parallel_iterations=1,
    )[1]


def for_each(function: Callable[[tf.Tensor], tf.Tensor], constants: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """What a function makes of each row of constants, `[*like.shape[:-1], 1]`, side by side along the last axis."""
    shape = tf.concat([tf.shape(like)[:-1], [1]], 0)
    found = tf.map_fn(lambda constant: tf.reshape(function(constant), shape), constants, parallel_iterations=1)
    turned = tf.transpose(found[..., 0], [*range(1, like.shape.rank), 0])
    return tf.ensure_shape(turned, [*like.shape[:-1], constants.shape[0]])


def inverse_tukey_hh(x: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """The inverse of Tukey's HH function, by tf.transform; the parameters broadcast."""
    shape = tf.shape(x)
    left, right = (tf.broadcast_to(parameter, shape) for parameter in (left, right))
    return elementwise(gaussianization.inverse_tukey_hh, x, left, right)


def rank(x: tf.Tensor, constants: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The ranks of integers or strings in a vocabulary, int64, and whether it has them."""
    places, known = find(group_keys(x), constants["keys"])
    ids = tf.concat([constants["ids"], tf.zeros([1], tf.int64)], 0)  # there may be no id to gather
    return tf.gather(ids, places), known


def unknown_rank(x: tf.Tensor, constants: Mapping[str, tf.Tensor], buckets: int) -> tf.Tensor:
    """The number for what a vocabulary has not: one of some buckets after its ranks by a hash, or -1 without one."""
    if not buckets:
        return tf.constant(-1, tf.int64)
    text = x if x.dtype == tf.string else tf.strings.as_string(tf.cast(x, tf.int64))
    return tf.size(constants["keys"], tf.int64) + tf.strings.to_hash_bucket_fast(text, buckets)


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
    """Where values, int64 of any shape, stand among keys, int64 `[n]`, which ascend; n may be 0.

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

    Boundaries, `[statistics, n]`, ascend; one that equals the value counts unless `strict`. The values and the result,
    int64, are `[statistics, values]`; what NaN gets means nothing.
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
