"""Rows that are kept in memory, decoded: an epoch then reads no file, and a batch is one copy of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from loaders.tensorflow.delivery import untuned

ALIGNMENT = 64
"""TensorFlow takes a buffer as it is where its address is a multiple of this."""


def read(blocks: tf.data.Dataset, rows: int) -> Any:
    """Reads blocks one after the other.

    Args:
        blocks: Elements of nested tensors of shape [rows of the block, *shape], with no unknown axis in the shape.
        rows: How many rows they have together.

    Returns:
        Tensors of shape [rows, *shape] in the same nest. They are the only copy; but of strings there are two for a
        while.
    """
    specs = tf.nest.flatten(blocks.element_spec)
    parts: list[Any] = [
        [] if spec.dtype == tf.string else _empty((rows, *spec.shape[1:]), spec.dtype.as_numpy_dtype) for spec in specs
    ]
    at = 0
    for block in untuned(blocks):
        tensors = tf.nest.flatten(block)
        for part, values in zip(parts, tensors, strict=True):
            if isinstance(part, list):
                part.append(values)
            else:
                part[at : at + len(values)] = values
        at += len(tensors[0])
    return tf.nest.pack_sequence_as(blocks.element_spec, [_tensor(part) for part in parts])


def take(rows: Any, numbers: tf.Tensor) -> Any:
    """The rows of these numbers, int64 of shape [n]: nested tensors of shape [n, *shape]."""
    return tf.nest.map_structure(lambda values: tf.gather(values, numbers), rows)


def _empty(shape: tuple[int, ...], dtype: type) -> Any:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(size + ALIGNMENT, dtype=np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + size].view(dtype).reshape(shape)


def _tensor(part: Any) -> tf.Tensor:
    if isinstance(part, list):
        return tf.concat([tf.constant([], tf.string, shape=[0, *part[0].shape[1:]] if part else [0]), *part], 0)
    return tf.experimental.dlpack.from_dlpack(part.__dlpack__())
