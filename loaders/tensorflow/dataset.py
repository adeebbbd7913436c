"""`loaders.load`: a `tf.data` pipeline of one split."""

from __future__ import annotations

import os
from typing import Unpack

import tensorflow as tf

from loaders.options import TensorFlowKeywords, TensorFlowOptions, shows
from loaders.tensorflow.loader import Loader


@shows(TensorFlowOptions)
def load(root: str | os.PathLike[str], split: str, **options: Unpack[TensorFlowKeywords]) -> tf.data.Dataset:
    """Makes a pipeline that yields every row of a split once an epoch: `loaders.Loader(...).dataset()`.

    The order is a function of the data set, the seed and the number of the epoch, and of nothing else. A data set
    that is iterated again goes on with the next epochs, so `model.fit(dataset, epochs=3)` sees three orders; one that
    is loaded again begins with epoch 0.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.
        split: The name of a split, or rows of it, such as "train[:10%]", as in `loaders.numpy.Loader`.
        **options: The fields of `loaders.options.TensorFlowOptions`, as keywords.

    Returns:
        Dicts of a tensor of shape [batch, *shape] for each feature's name, of the feature's dtype; or what
        `as_supervised` or `map_fn` makes of them. Its `cardinality()` is known unless there are buckets, and the batch
        axis of `element_spec` where every batch has one size.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If an option's value is of another type.
        ValueError: If an option's value is not allowed, `as_supervised` lacks an input or a label, or `split` means no
            rows.
    """
    return Loader(root, split, **options).whole_dataset()
