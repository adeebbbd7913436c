"""A mixture of loaders as one `tf.data` pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loaders.sampling.mixture import joined
from loaders.tensorflow.blocks import HOST
from loaders.tensorflow.loader import Loader


def build(loaders: Sequence[Loader], weights: npt.NDArray[np.float64] | None) -> tuple[tf.data.Dataset, tf.Variable]:
    """The batches that a mixture yields.

    Args:
        loaders: The loaders, without end.
        weights: The weight of each, or None for all in each batch.

    Returns:
        The data set, and a variable for how many batches each loader has given, int64 of shape [loaders].
    """
    with tf.device(HOST):
        variable = tf.Variable([0] * len(loaders), dtype=tf.int64, trainable=False, name="batches")
    sources = [loader.dataset() for loader in loaders]
    if weights is None:
        together = tf.data.Dataset.zip(tuple(sources)).map(lambda *batches: joined(batches))
        return together.prefetch(tf.data.AUTOTUNE), variable

    def choice(counts: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores = (tf.cast(counts, tf.float64) + 0.5) / weights
        source = tf.where(tf.equal(scores, tf.reduce_min(scores)))[0, 0]
        return counts + tf.one_hot(source, len(loaders), dtype=tf.int64), source

    def choices(one: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(tf.int64.max).scan(variable.read_value(), choice)

    plain: Any = tf.autograph.experimental.do_not_convert
    chosen = tf.data.Dataset.range(1).flat_map(plain(choices))
    mixed = tf.data.Dataset.choose_from_datasets(sources, chosen, stop_on_empty_dataset=True)
    return mixed.prefetch(tf.data.AUTOTUNE), variable
