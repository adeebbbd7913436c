"""Changes batches in a `tf.data` pipeline: by the functions of `loaders.augment`, and by leaving out lost rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from loaders.augment import augmentation
from loaders.augment.augmentation import Augmentation
from loaders.order.epoch import BatchShare
from loaders.reading.columns import LENGTH_SUFFIX
from loaders.reading.row_reader import RowReader, Source
from loaders.storage.store import ShardError
from loaders.tensorflow.batching import LOST, ROWS, Assembly
from loaders.tensorflow.last_steps import called
from loaders.tensorflow.ragged import Tensors

SAMPLE_ROWS = 3
"""How many rows functions are tried on, to see what they make of a batch."""


class Augmenter:
    """Changes batches by functions of NumPy arrays, which were tried on a sample.

    Raises:
        ValueError: If a function cannot be applied.
    """

    def __init__(
        self, functions: Sequence[Augmentation], *, seed: int, deal: BatchShare, sample: Mapping[str, tf.Tensor]
    ) -> None:
        self._functions, self._seed, self._deal = tuple(functions), seed, deal
        self._names = tuple(sample)
        self._specs = augmented_specs(self._functions, {name: values.numpy() for name, values in sample.items()})
        ends = [end - first for first, end in map(deal.bounds, deal.own)]
        self._lengths = np.array(ends, dtype=np.int64)

    def __call__(
        self, batch: Tensors, numbers: tf.Tensor, good: tf.Tensor, epoch: tf.Tensor, consumed: tf.Tensor
    ) -> Any:
        """Changes a batch of the rows that are there.

        Args:
            batch: Their values.
            numbers: The number of each in the split as it is stored, int64 of shape [rows].
            good: Which rows of the batch as it was dealt they are, bool.
            epoch: As in `StreamReader.batches`.
            consumed: As `start` there, of the rows before this batch.
        """
        rows = batch[self._names[0]].shape[0]
        found = tf.numpy_function(
            called(self._change),
            [numbers, good, epoch, consumed, *(batch[name] for name in self._names)],
            [spec.dtype for spec in self._specs.values()],
        )
        return {
            name: tf.ensure_shape(values, [rows, *spec.shape[1:]])
            for (name, spec), values in zip(self._specs.items(), found, strict=True)
        }

    def _change(self, numbers: Any, good: Any, epoch: Any, consumed: Any, *values: Any) -> list[Any]:
        if not len(numbers):
            return [_nothing(spec) for spec in self._specs.values()]
        # They are TensorFlow's own memory, which functions may not write to.
        batch = {name: np.array(array) for name, array in zip(self._names, values, strict=True)}
        dealt = np.clip(self._lengths - consumed, 0, self._deal.stream_batch)
        groups = tuple(int(group.sum()) for group in np.split(good, np.cumsum(dealt)[:-1]))
        changed = augmentation.apply(
            self._functions, batch, seed=self._seed, epoch=int(epoch), rows=numbers, groups=groups
        )
        return [np.ascontiguousarray(changed[name]) for name in self._specs]


def sample_batch(source: Source, assembly: Assembly) -> dict[str, tf.Tensor]:
    """Some rows of a batch before augmentations are applied: the first that are stored, or zeros if they may be lost.

    Raises:
        ShardError: If they cannot be read.
        ValueError: If a batch holds what is no array.
    """
    names = [feature.name for feature in assembly.features]
    reader = RowReader(dataclasses.replace(source, cache=None, skipped=None), names)
    number = min(SAMPLE_ROWS, source.view.rows)
    numbers, columns = source.view.stored(np.arange(number)), reader.shards.empty(number)
    try:
        reader.take(numbers, columns, numbers)
    except ShardError:
        if source.skipped is None:
            raise
        number = 0
    if not number:
        columns = reader.shards.empty(SAMPLE_ROWS, np.zeros)
    assert assembly.decode is not None
    batch = assembly.decode({name: tf.constant(values) for name, values in columns.items()})
    for name, values in batch.items():
        if not isinstance(values, tf.Tensor):
            raise ValueError(f"{name}: augment expects ragged='padded'; found a {type(values).__name__}")
    return batch


def augmented_specs(functions: Sequence[Augmentation], arrays: Mapping[str, Any]) -> dict[str, tf.TensorSpec]:
    """What batches have after some functions."""
    # An axis has no size where it follows the length of the longest row.
    longer = {name: _longer(arrays[name]) if name + LENGTH_SUFFIX in arrays else arrays[name] for name in arrays}
    first, second = (_applied(functions, batch) for batch in (arrays, longer))
    return {name: _spec(first[name], second[name]) for name in first}


def _longer(values: Any) -> Any:
    return np.pad(values, [(0, 0), (0, 1), *[(0, 0)] * (values.ndim - 2)])


def _applied(functions: Sequence[Augmentation], batch: Mapping[str, Any]) -> dict[str, Any]:
    copies = {name: np.array(values) for name, values in batch.items()}
    rows = len(next(iter(copies.values())))
    return augmentation.apply(functions, copies, seed=0, epoch=0, rows=np.arange(rows), groups=(rows,))


def _spec(first: Any, second: Any) -> tf.TensorSpec:
    shape = [size if size == other else None for size, other in zip(first.shape[1:], second.shape[1:], strict=True)]
    return tf.TensorSpec([None, *shape], tf.string if first.dtype.kind in "OS" else tf.as_dtype(first.dtype))


def _nothing(spec: tf.TensorSpec) -> Any:
    """An array of no rows."""
    dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
    return np.zeros([0, *(size or 0 for size in spec.shape[1:])], dtype)


def split_block(assembly: Assembly, block: Tensors) -> tuple[Tensors, tf.Tensor | None, tf.Tensor]:
    """A batch of blocks as its features, and what is beside them.

    Returns:
        The features of the rows that are there, decoded; the numbers of these rows, or None; and which
        of the batch's they are, bool of shape [batch].
    """
    if LOST in block:
        good = tf.logical_not(block[LOST])
        places = tf.where(good)[:, 0]
        block = {name: tf.gather(values, places) for name, values in block.items()}
    else:
        good = tf.fill(tf.shape(next(iter(block.values())))[:1], True)
    assert assembly.decode is not None
    return assembly.decode({spec.name: block[spec.name] for spec in assembly.features}), block.get(ROWS), good
