"""How `tf.data` runs every pipeline of this package."""

from __future__ import annotations

import tensorflow as tf

from loaders.tensorflow.ending import end_iterators_at_exit


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """A data set whose elements come in one order, without `tf.data`'s autotuning.

    The thread that tunes is not always woken when an iterator ends: the iterator then lasts until that thread next
    looks, which it does ever less often, up to once a minute. What is not said to run a number of times in parallel
    runs as often as there are cores. Its iterators end before the program does.
    """
    end_iterators_at_exit()
    settings = tf.data.Options()
    settings.deterministic = True
    settings.autotune.enabled = False
    return dataset.with_options(settings)
