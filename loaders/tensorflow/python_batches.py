"""Mixtures, and batches that Python makes, as `tf.data` pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loaders.augment.augmentation import Augmentation
from loaders.reading.columns import concatenate_batches
from loaders.tensorflow.augmenter import augmented_specs
from loaders.tensorflow.last_steps import called, untuned
from loaders.tensorflow.loader import Loader
from loaders.tensorflow.pipeline import HOST


def concatenate(batches: Sequence[Any]) -> Any:
    """Batches of tensors of the same features as one; see `loaders.reading.columns.concatenate_batches`."""
    return concatenate_batches(batches, lambda values: tf.concat(values, 0))


def mixture_dataset(
    loaders: Sequence[Loader], choose: Callable[[npt.NDArray[np.int64]], int] | None
) -> tuple[tf.data.Dataset, tf.Variable]:
    """The batches that a mixture of loaders without end yields.

    `choose` says which of them gives the next batch, by how many each has given; all do in each batch for None.

    Returns:
        The data set, and a variable for how many batches each loader has given, int64 of shape [loaders].
    """
    with tf.device(HOST):
        variable = tf.Variable([0] * len(loaders), dtype=tf.int64, trainable=False, name="batches")
    sources = [loader.dataset() for loader in loaders]
    if choose is None:
        together = tf.data.Dataset.zip(tuple(sources)).map(lambda *batches: concatenate(batches))
        return together.prefetch(tf.data.AUTOTUNE), variable

    next_one = called(lambda counts: np.int64(choose(counts)))

    def choice(counts: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        source = tf.ensure_shape(tf.numpy_function(next_one, [counts], tf.int64), [])
        return counts + tf.one_hot(source, len(loaders), dtype=tf.int64), source

    def choices(start: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(tf.int64.max).scan(variable.read_value(), choice)

    plain: Any = tf.autograph.experimental.do_not_convert
    chosen = tf.data.Dataset.range(1).flat_map(plain(choices))
    mixture = tf.data.Dataset.choose_from_datasets(sources, chosen, stop_on_empty_dataset=True)
    return mixture.prefetch(tf.data.AUTOTUNE), variable


def generated_dataset(
    make: Callable[[], Iterator[Any]],
    first: Callable[[], Mapping[str, Any]],
    functions: Sequence[Augmentation],
    arrange: Callable[[Mapping[str, Any]], Any],
) -> tf.data.Dataset:
    """A data set of batches that Python makes, all of one number of rows; one element is kept ready.

    Their shapes and dtypes are those of the `first` batch once it is augmented by the functions and arranged.

    Raises:
        ValueError: If a function cannot be applied.
    """
    batch = first()
    rows = len(next(iter(batch.values())))
    specs = {
        name: tf.TensorSpec([rows, *spec.shape[1:]], spec.dtype)
        for name, spec in augmented_specs(functions, batch).items()
    }

    def generate() -> Iterator[Any]:
        return iter(called(iter(make()).__next__), _END)

    return untuned(tf.data.Dataset.from_generator(generate, output_signature=arrange(specs)).prefetch(1))


_END = object()
