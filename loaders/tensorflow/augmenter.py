"""Changes batches in a `tf.data` pipeline: by the functions of `loaders.augment`, and by leaving out lost rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from loaders.augment import augmentation
from loaders.augment.augmentation import Augmentation
from loaders.format.spec import FeatureSpec
from loaders.order.epoch import BatchShare
from loaders.order.split_slices import View
from loaders.reading.columns import LENGTH_SUFFIX
from loaders.reading.rows import Rows
from loaders.storage.shards import empty_column
from loaders.storage.store import ShardError
from loaders.tensorflow.batching import LOST, ROWS, Assembly
from loaders.tensorflow.last_steps import called
from loaders.tensorflow.ragged import Tensors

SAMPLE_ROWS = 3
"""How many rows functions are tried on, to see what they make of a batch."""


class Augmenter:
    """Changes batches by functions of NumPy arrays.

    Args:
        functions: The functions; see `loaders.augment.apply`.
        seed: The seed of their random numbers.
        deal: How rows are dealt to batches.
        sample: Some rows of a batch before; see `sample_batch`.

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
        """Changes a batch.

        Args:
            batch: The rows that are there.
            numbers: The number of each in the split as it is stored, int64 of shape [rows].
            good: Which rows of the batch as it was dealt they are, bool.
            epoch: The number of the epoch, an int64 scalar.
            consumed: How many rows of each stream came before, an int64 scalar.
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


def sample_batch(root: str, view: View, assembly: Assembly, *, skips: bool) -> dict[str, tf.Tensor]:
    """Some rows of a batch before augmentations are applied: the first ones that are stored.

    Args:
        root: Where the data set is.
        view: The rows.
        assembly: How they become elements.
        skips: Whether rows of zeros do where these cannot be read.

    Raises:
        ShardError: If they cannot be read.
        ValueError: If a batch holds what is no array.
    """
    rows = Rows(root, view.manifest, view.split, features=[feature.name for feature in assembly.features])
    number = min(SAMPLE_ROWS, view.rows)
    numbers = view.stored(np.arange(number))
    try:
        columns = rows.columns(numbers)
    except ShardError:
        if not skips:
            raise
        number = 0
    if not number:
        columns = {feature.name: _zeros(feature) for feature in assembly.features}
    assert assembly.finish is not None
    batch = assembly.finish({name: tf.constant(values) for name, values in columns.items()})
    for name, values in batch.items():
        if not isinstance(values, tf.Tensor):
            raise ValueError(f"{name}: augment expects ragged='padded'; found a {type(values).__name__}")
    return dict(batch)


def _zeros(feature: FeatureSpec) -> Any:
    values = empty_column(feature, SAMPLE_ROWS)
    if values.dtype != object:
        values[...] = 0
    return values


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


def pick_rows(batch: Any, good: tf.Tensor) -> Any:
    """The rows of a batch that a mask has."""
    places = tf.where(good)[:, 0]
    return tf.nest.map_structure(lambda values: tf.gather(values, places), batch)


def split_block(assembly: Assembly, block: Tensors) -> tuple[Tensors, tf.Tensor | None, tf.Tensor]:
    """A batch of blocks as its features, and what is beside them.

    Returns:
        The features of the rows that are there, `finish` being applied; the numbers of these rows, or None; and which
        of the batch's they are, bool of shape [batch].
    """
    rest = {name: values for name, values in block.items() if name not in (ROWS, LOST)}
    numbers, lost = block.get(ROWS), block.get(LOST)
    if lost is None:
        good = tf.fill(tf.shape(next(iter(block.values())))[:1], True)
    else:
        good = tf.logical_not(lost)
        rest, numbers = pick_rows((rest, numbers), good) if numbers is not None else (pick_rows(rest, good), None)
    assert assembly.finish is not None
    return assembly.finish(rest), numbers, good
