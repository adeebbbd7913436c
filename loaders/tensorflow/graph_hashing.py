"""The hashes and permutations of `loaders.order.hashing` as TensorFlow operations, equal to them bit for bit.

An operation takes a third of a millisecond to trace, and the first batch waits for all of them: so there are few, on
many numbers each.
"""

from __future__ import annotations

import tensorflow as tf

from loaders.order.hashing import GAMMA, MASK, PERMUTE_ROUNDS


def u64(value: int) -> tf.Tensor:
    """A uint64 constant of the lowest 64 bits of `value`."""
    return tf.constant(value & MASK, tf.uint64)


def _xor_shift(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.raw_ops.BitwiseXor(x=x, y=tf.raw_ops.RightShift(x=x, y=u64(bits)))


def _mix64(x: tf.Tensor) -> tf.Tensor:
    x = tf.raw_ops.Mul(x=_xor_shift(tf.raw_ops.AddV2(x=x, y=u64(GAMMA)), 30), y=u64(0xBF58476D1CE4E5B9))
    x = tf.raw_ops.Mul(x=_xor_shift(x, 27), y=u64(0x94D049BB133111EB))
    return _xor_shift(x, 31)


_MIX64 = tf.function(_mix64, autograph=False, input_signature=[tf.TensorSpec(None, tf.uint64)])


def mix64_next(x: tf.Tensor) -> tf.Tensor:
    """`loaders.order.hashing.mix64` of `x + GAMMA`: uint64 of any shape to uint64 of that shape."""
    # A call is one operation to trace.
    (mixed,) = tf.raw_ops.PartitionedCall(args=[x], Tout=[tf.uint64], f=_MIX64.get_concrete_function())
    mixed.set_shape(x.shape)
    return mixed


def derive(seed: tf.Tensor, *words: tf.Tensor) -> tf.Tensor:
    """`loaders.order.hashing.derive`: a uint64 key from a uint64 seed and words, which are int64 of any one shape."""
    key = mix64_next(seed)
    for word in words:
        key = extend(key, word)
    return key


def extend(key: tf.Tensor, word: tf.Tensor) -> tf.Tensor:
    """The key `derive(…, word)` of `key = derive(…)`: uint64 and int64 of shapes that broadcast."""
    mixed = tf.raw_ops.BitwiseXor(x=key, y=tf.raw_ops.Bitcast(input=word, type=tf.uint64))
    return mix64_next(mixed)


def stream(key: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """`loaders.order.hashing.stream`: the uint64 hashes of int64 `index` under a uint64 key."""
    steps = tf.raw_ops.Mul(x=tf.raw_ops.Bitcast(input=index, type=tf.uint64), y=u64(GAMMA))
    return mix64_next(tf.raw_ops.AddV2(x=steps, y=key))


def shuffled(key: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """`loaders.order.hashing.shuffled`: a permutation of `range(rows)`, int32 of shape [rows]."""
    hashes = tf.raw_ops.RightShift(x=stream(key, tf.range(rows)), y=u64(1))
    # The complement of the bits turns the order round, and the operation takes equal values by their index.
    descending = tf.raw_ops.Bitcast(input=tf.raw_ops.Invert(x=hashes), type=tf.int64)
    return tf.raw_ops.TopKV2(input=descending, k=tf.cast(rows, tf.int32)).indices


def _swap_or_not(step: tf.Tensor, x: tf.Tensor, keys: tf.Tensor, pivots: tf.Tensor, size: tf.Tensor) -> list[tf.Tensor]:
    """One round of the swap-or-not shuffle."""
    axis = tf.constant(0)
    key, pivot = (tf.raw_ops.GatherV2(params=each, indices=step, axis=axis) for each in (keys, pivots))
    partner = tf.raw_ops.FloorMod(x=tf.raw_ops.Sub(x=pivot, y=x), y=size)
    hashes = stream(key, tf.raw_ops.Maximum(x=x, y=partner))
    swap = tf.raw_ops.Cast(x=tf.raw_ops.BitwiseAnd(x=hashes, y=u64(1)), DstT=tf.bool)
    x = tf.raw_ops.SelectV2(condition=swap, t=partner, e=x)
    return [tf.raw_ops.AddV2(x=step, y=tf.constant(1)), x, keys, pivots, size]


def _unfinished(step: tf.Tensor, *carried: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.Less(x=step, y=tf.constant(PERMUTE_ROUNDS))


_CARRIED = (
    tf.TensorSpec([], tf.int32),
    tf.TensorSpec([None], tf.int64),
    tf.TensorSpec([PERMUTE_ROUNDS], tf.uint64),
    tf.TensorSpec([PERMUTE_ROUNDS], tf.int64),
    tf.TensorSpec([], tf.int64),
)
_ROUND = tf.function(_swap_or_not, autograph=False, input_signature=_CARRIED)
_LEFT = tf.function(_unfinished, autograph=False, input_signature=_CARRIED)


def rounds(keys: tf.Tensor, pivots: tf.Tensor, index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The rounds of the swap-or-not shuffle, in the order of their keys.

    Args:
        keys: uint64 of shape [PERMUTE_ROUNDS].
        pivots: Each key modulo `size`, int64.
        index: int64 of shape [n], in `[0, size)`.
        size: An int64 scalar.

    Returns:
        int64 of shape [n].
    """
    # A loop, because 32 unrolled rounds would take longer to trace than to run; and its bare operation, because
    # `tf.while_loop` traces three times as long.
    return tf.raw_ops.StatelessWhile(
        input=[tf.constant(0), index, keys, pivots, size],
        cond=_LEFT.get_concrete_function(),
        body=_ROUND.get_concrete_function(),
    )[1]


def round_keys(key: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The keys and the pivots of `rounds` for a permutation of `range(size)`; its inverse has them in reverse."""
    keys = derive(key, tf.constant(list(range(PERMUTE_ROUNDS)), tf.int64))
    return keys, tf.bitcast(tf.raw_ops.FloorMod(x=keys, y=tf.bitcast(size, tf.uint64)), tf.int64)
