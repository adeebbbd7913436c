"""The hashes and permutations of `loaders.order` as TensorFlow operations, equal to them bit for bit."""

from __future__ import annotations

import tensorflow as tf

from loaders.order import GAMMA, MASK, PERMUTE_ROUNDS


def u64(value: int) -> tf.Tensor:
    """A uint64 constant of the lowest 64 bits of `value`."""
    return tf.constant(value & MASK, tf.uint64)


def _xor_shift(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, u64(bits)))


def mix64(x: tf.Tensor) -> tf.Tensor:
    """`loaders.order.mix64`: uint64 of any shape to uint64 of that shape."""
    x = _xor_shift(x, 30) * u64(0xBF58476D1CE4E5B9)
    x = _xor_shift(x, 27) * u64(0x94D049BB133111EB)
    return _xor_shift(x, 31)


def derive(seed: tf.Tensor, *words: tf.Tensor) -> tf.Tensor:
    """`loaders.order.derive`: a uint64 key from a uint64 seed and words, which are int64 of any one shape."""
    key = mix64(seed + u64(GAMMA))
    for word in words:
        key = mix64(tf.bitwise.bitwise_xor(key, tf.bitcast(word, tf.uint64)) + u64(GAMMA))
    return key


def stream(key: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """`loaders.order.stream`: the uint64 hashes of int64 `index` under a uint64 key."""
    return mix64((tf.bitcast(index, tf.uint64) + u64(1)) * u64(GAMMA) + key)


def shuffled(key: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """`loaders.order.shuffled`: a permutation of `range(rows)`, int32 of shape [rows]."""
    hashes = tf.bitwise.right_shift(stream(key, tf.range(rows)), u64(1))
    return tf.argsort(tf.bitcast(hashes, tf.int64), stable=True)


def permute(key: tf.Tensor, index: tf.Tensor, size: int) -> tf.Tensor:
    """`loaders.order.permute`: the int64 images of int64 `index` under a permutation of `range(size)`."""
    round_keys = derive(key, tf.range(PERMUTE_ROUNDS, dtype=tf.int64))
    pivots = tf.bitcast(tf.math.floormod(round_keys, u64(size)), tf.int64)

    def swap_or_not(step: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        partner = pivots[step] - x
        partner = tf.where(partner < 0, partner + size, partner)
        hashes = tf.bitcast(stream(round_keys[step], tf.maximum(x, partner)), tf.int64)
        swap = tf.bitwise.bitwise_and(hashes, tf.constant(1, tf.int64)) == 1
        return step + 1, tf.where(swap, partner, x)

    # A loop, because 32 unrolled rounds would take longer to trace than to run.
    return tf.while_loop(lambda step, _: step < PERMUTE_ROUNDS, swap_or_not, (tf.constant(0), index))[1]
