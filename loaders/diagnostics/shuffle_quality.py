"""How well the epochs of a loader mix classes, against true permutations. NumPy only."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from loaders.format.spec import FeatureSpec
from loaders.numpy import Loader
from loaders.order.class_mixing import ShuffleQuality, compare_labels


def class_labels(features: Sequence[FeatureSpec]) -> tuple[str, ...]:
    """The names of the features that may tell the class of a row: labels of one value a row that are no floats."""
    return tuple(
        spec.name
        for spec in features
        if spec.role == "label" and spec.shape == () and spec.numpy_dtype.kind in "biuO"  # O: strings
    )


def compare_epoch(
    root: str | os.PathLike[str], split: str, *, label: str, batch_size: int, seed: int = 0, epoch: int = 0
) -> ShuffleQuality:
    """Compares an epoch of a loader with true permutations.

    Args:
        root: The directory of a finished build, a local one.
        split: The name of a split.
        label: The feature that tells the class of a row, one value a row.
        batch_size: The rows of a batch.
        seed: The seed of the order.
        epoch: The number of the epoch.

    Returns:
        The comparison.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        ValueError: If there is no such feature, or it cannot be compared, as `compare_labels` says.
    """
    # Batches are runs of one order, so few large ones say the same.
    loader = Loader(root, split, batch_size=1 << 16, seed=seed, features=[label])
    loader.load_state_dict(loader.state_dict() | {"epoch": epoch})
    labels = np.concatenate([batch[label] for batch in loader] or [np.empty(0, np.int64)])
    if labels.ndim != 1:
        raise ValueError(f"{label}: expected one value a row; found rows of shape {labels.shape[1:]}")
    return compare_labels(labels, batch_size=batch_size)
