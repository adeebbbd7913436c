"""tf.data over arrays in memory, or over a Python generator of rows."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from peers.arrays import open_arrays, write
from peers.data import Rows

__all__ = ["PACKAGES", "load", "write"]

PACKAGES = ("tensorflow", "numpy")


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """`from_tensor_slices` or `from_generator`, shuffle, batch and prefetch, as tensorflow.org/guide/data has it."""
    if variant == "slices":
        dataset = tf.data.Dataset.from_tensor_slices(open_arrays(out, mmap=False))
        yield None
    else:
        values, labels = open_arrays(out)
        dataset = tf.data.Dataset.from_generator(
            lambda: zip(values, labels, strict=True),
            output_signature=(tf.TensorSpec(rows.shape, rows.dtype), tf.TensorSpec([], tf.int64)),
        )
    dataset = dataset.shuffle(rows.window, seed=0).batch(batch).prefetch(tf.data.AUTOTUNE)
    yield from dataset
