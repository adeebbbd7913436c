"""Batches that a loader of NumPy arrays makes, as a `tf.data` pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from loaders.augment.augmentations import Augmentation
from loaders.tensorflow import changes
from loaders.tensorflow.untuned import untuned


def build(
    make: Callable[[], Iterator[Any]],
    first: Callable[[], Mapping[str, Any]],
    functions: Sequence[Augmentation],
    arrange: Callable[[Mapping[str, Any]], Any] | None,
) -> tf.data.Dataset:
    """A data set of batches that Python makes.

    Args:
        make: Begins an iteration over the batches, all of one number of rows.
        first: Makes a batch before it is augmented.
        functions: What batches are augmented by.
        arrange: What is made of a batch then, or None.

    Returns:
        What `make` yields as tensors of shape [rows, *shape], where `rows` are those of the first batch; one element
        is kept ready.

    Raises:
        ValueError: If a function cannot be applied.
    """
    batch = first()
    rows = len(next(iter(batch.values())))
    specs = {
        name: tf.TensorSpec([rows, *spec.shape[1:]], spec.dtype)
        for name, spec in changes.results(functions, batch).items()
    }
    signature = specs if arrange is None else arrange(specs)
    return untuned(tf.data.Dataset.from_generator(make, output_signature=signature).prefetch(1))
