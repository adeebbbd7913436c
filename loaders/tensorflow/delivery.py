"""The last steps of every `tf.data` pipeline of this package: how it runs, where its batches go, and how it ends."""

from __future__ import annotations

import atexit
import functools
import gc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

GPU = "/gpu:0"


def deliver(
    dataset: tf.data.Dataset, *, map_fn: Callable[..., Any] | None, prefetch: int, device: str | None
) -> tf.data.Dataset:
    """The user's function, prefetching, and the copy to a device; `loaders.load` says what each option means."""
    if map_fn is not None:
        dataset = dataset.map(map_fn, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if prefetch:
        dataset = dataset.prefetch(prefetch)
    dataset = untuned(dataset)
    if device == "auto":
        device = GPU if tf.config.list_physical_devices("GPU") else None
    if not device:
        return dataset
    # It must be the last step. The copy is behind a generator, of which tf.data does not know that it keeps the number.
    return with_cardinality(dataset.apply(tf.data.experimental.prefetch_to_device(device)), dataset.cardinality())


def with_cardinality(dataset: tf.data.Dataset, count: tf.Tensor) -> tf.data.Dataset:
    """Lets a data set, which is the last of a pipeline, say how many elements it has.

    `tf.data.experimental.assert_cardinality` does not do: it is no step that may follow the copy to a device, and it
    makes an error of an iterator that resumes within an epoch and so has fewer. Left unknown, `len` is an error, and
    Keras takes the length of the first, resumed epoch for that of all.

    Args:
        dataset: The data set.
        count: As its `cardinality()` gives it, an int64 scalar.
    """
    dataset.cardinality = lambda: count
    return dataset


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


@functools.cache
def end_iterators_at_exit() -> None:
    """Lets iterators end before Python does, where a program still has some then.

    An iterator that is deleted waits for the calls that its threads have begun. Where one of these calls is of Python,
    and Python is ending, it never returns, and the program would hang: one that left an iterator of `dataset()` while
    an augmentation slept for 3 s had not ended after 4 minutes, and ends with this. To look through 420,000 objects
    takes 0.3 s.
    """
    atexit.register(_end_iterators)


def _end_iterators() -> None:
    for found in gc.get_objects():
        if issubclass(type(found), tf.data.Iterator):
            vars(found).clear()  # nobody uses it any more; what it held is deleted
