"""`loaders.load`: a `tf.data` pipeline of one split."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from loaders.reading.prefetch import AUTOTUNE
from loaders.tensorflow.loader import Loader
from loaders.tensorflow.ragged import RaggedOutput


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
    ragged: RaggedOutput = "padded",
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
        split: The name of a split, or rows of it, such as "train[:10%]", as in `loaders.numpy.Loader`.
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
    loader = Loader(
        root,
        split,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
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
    return loader.whole_dataset()
