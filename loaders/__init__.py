"""Loads data sets into `tf.data`; `loaders.numpy`, `loaders.torch` and `loaders.jax` read them without TensorFlow.

Importing this package imports no TensorFlow; the first call of `load` does, and `open` of a directory that is remote.
"""

from __future__ import annotations

import importlib
import operator
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from loaders.format.manifest import ManifestError

if TYPE_CHECKING:
    import tensorflow as tf

    from loaders import augment, jax, numpy, torch
    from loaders.data_set import DataSet
    from loaders.order.epoch import ShardOptions
    from loaders.order.splits import fold
    from loaders.order.state import StateError
    from loaders.sampling.mixture import Mixture
    from loaders.sampling.weighted import WeightedLoader, balanced
    from loaders.storage.allocator import keep_freed_memory
    from loaders.storage.store import ShardError
    from loaders.tensorflow.keras import BackupAndRestore, KerasState, track
    from loaders.tensorflow.loader import Loader
    from loaders.transform.inverse import Inverse

AUTOTUNE = -1
"""`tf.data.AUTOTUNE`, without importing TensorFlow."""

_LAZY = {
    "BackupAndRestore": "loaders.tensorflow.keras",
    "DataSet": "loaders.data_set",
    "Inverse": "loaders.transform.inverse",
    "KerasState": "loaders.tensorflow.keras",
    "Loader": "loaders.tensorflow.loader",
    "Mixture": "loaders.sampling.mixture",
    "ShardError": "loaders.storage.store",
    "ShardOptions": "loaders.order.epoch",
    "StateError": "loaders.order.state",
    "WeightedLoader": "loaders.sampling.weighted",
    "balanced": "loaders.sampling.weighted",
    "fold": "loaders.order.splits",
    "keep_freed_memory": "loaders.storage.allocator",
    "track": "loaders.tensorflow.keras",
}
_MODULES = ("augment", "jax", "numpy", "torch")

__all__ = [
    "AUTOTUNE",
    "BackupAndRestore",
    "DataSet",
    "Inverse",
    "KerasState",
    "Loader",
    "ManifestError",
    "Mixture",
    "ShardError",
    "ShardOptions",
    "StateError",
    "WeightedLoader",
    "augment",
    "balanced",
    "fold",
    "inverse",
    "jax",
    "keep_freed_memory",
    "load",
    "numpy",
    "open",
    "torch",
    "track",
]


def __dir__() -> list[str]:
    """What this package is made of, whether it was imported before or not."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Imports what only some programs use when it is first named: PyTorch and JAX are optional."""
    if name in _MODULES:
        return importlib.import_module(f"loaders.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'loaders' has no attribute {name!r}")


def open(root: str | os.PathLike[str]) -> DataSet:
    """Reads what a data set holds, without its rows.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.

    Returns:
        The facts: `features`, `splits`, `class_names`, `statistics`, `manifest`; its `load` is `loaders.load`.

    Raises:
        ManifestError: If it is not a finished data set, or is of a format version that this reader does not know.
    """
    from loaders import data_set

    return data_set.read(root)


def inverse(root: str | os.PathLike[str]) -> Inverse:
    """Reads how to get from transformed values back to raw ones.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.

    Returns:
        A function `inverse(name, values)` of a feature's name and its transformed values, `np.ndarray`,
        `tf.Tensor` or `tf.RaggedTensor`.

    Raises:
        ManifestError: If it is not a finished data set, or is of a format version that this reader does not know.
    """
    from loaders.transform.inverse import read

    return read(root)


def load(
    root: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int,
    shuffle: bool = True,
    seed: int = 0,
    epochs: int | None = 1,
    drop_remainder: bool = False,
    as_supervised: bool = False,
    map_fn: Callable[..., Any] | None = None,
    prefetch: int = AUTOTUNE,
    device: str | None = None,
    ragged: Literal["padded", "ragged"] = "padded",
    bucket_boundaries: Sequence[int] | None = None,
    bucket_by: str | None = None,
    transform: bool = True,
    in_memory: bool = False,
) -> tf.data.Dataset:
    """Makes a pipeline that yields every row of a split once an epoch.

    The order is a function of the data set, the seed and the number of the epoch, and of nothing else. A data set
    that is iterated again goes on with the next epochs, so `model.fit(dataset, epochs=3)` sees three orders; one that
    is loaded again begins with epoch 0.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.
        split: The name of a split, or rows of it, such as "train[:10%]"; see `loaders.order.splits.resolve`.
        batch_size: The rows of a batch. No batch has rows of two epochs.
        shuffle: Whether each epoch has its own order; otherwise rows come as they are stored.
        seed: The seed of the order.
        epochs: How many epochs one iteration has; None has no end.
        drop_remainder: Whether to leave out an epoch's last batch where it is not full. The batch axis of
            `element_spec` is then known.
        as_supervised: Whether to yield `(inputs, labels)`, or `(inputs, labels, weights)` where a feature has the role
            of a weight, by the features' roles. Each is a tensor where one feature has the role, a dict of them
            where many have. An id is left out.
        map_fn: A function of a batch, called as `tf.data.Dataset.map` calls it, for several batches at once.
        prefetch: How many batches to keep ready; `AUTOTUNE` lets `tf.data` choose, 0 keeps none.
        device: Where batches are put: a device's name, such as "/gpu:0"; "auto" for the first GPU, if there is one;
            None for the host's memory.
        ragged: What a feature whose rows differ in length becomes: "padded", a tensor of shape
            [batch, length, *inner shape], filled up with zeros to the longest row of the batch, and beside it
            `<name>_length`, the int64 lengths of shape [batch]; or "ragged", a `tf.RaggedTensor`.
        bucket_boundaries: Lengths in ascending order. A batch then has rows of one bucket only: those that are longer
            than the boundary before and at most as long as this one, to which they are padded; what is longer than
            all has a bucket of its own. A batch comes when its bucket is full, and at the end of an epoch what is left.
        bucket_by: The feature whose lengths are meant, where several differ in length.
        transform: Whether features that the shards hold as they are in the sources (`store: raw`) are transformed;
            otherwise they are yielded as they are, for `loaders.open(root).transform`.
        in_memory: Whether all rows of the split are read and decoded at once, and kept: for a split that fits the
            memory several times over, and is gone through often. The order is the same.

    Returns:
        Dicts of a tensor of shape [batch, *shape] for each feature's name, of the feature's dtype; or what
        `as_supervised` or `map_fn` makes of them. Its `cardinality()` is known unless there are buckets.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If `batch_size` or `seed` is not an integer.
        ValueError: If an option's value is not allowed, `as_supervised` lacks an input or a label, or `split` means no
            rows.
    """
    from loaders.tensorflow import dataset
    from loaders.tensorflow.batching import Options

    options = Options(
        batch_size=operator.index(batch_size),
        shuffle=shuffle,
        seed=operator.index(seed),
        epochs=epochs,
        drop_remainder=drop_remainder,
        as_supervised=as_supervised,
        map_fn=map_fn,
        prefetch=prefetch,
        device=device,
        ragged=ragged,
        bucket_boundaries=bucket_boundaries,
        bucket_by=bucket_by,
        transform=transform,
        in_memory=in_memory,
    )
    found = open(root)
    return dataset.build(found.root, found.manifest, split, options=options)
