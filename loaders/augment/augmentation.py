"""What an augmentation is, and what those of this package share. NumPy only.

An augmentation is any function `f(batch, rng)` from a dict of arrays of shape [rows, *shape], which it may change, and
a `Random` to such a dict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.augment.random import Random

Array = npt.NDArray[Any]
Batch = dict[str, Array]

Augmentation = Callable[[Batch, Random], Batch]


def apply(
    augmentations: Sequence[Augmentation],
    batch: Batch,
    *,
    seed: int,
    epoch: int,
    rows: npt.NDArray[np.int64],
    groups: Sequence[int],
) -> Batch:
    """A batch after augmentations, one after the other.

    Args:
        augmentations: The functions.
        batch: Arrays of shape [rows, *shape] by name.
        seed: As in `Random`.
        epoch: As in `Random`.
        rows: As in `Random`.
        groups: As in `Random`.

    Raises:
        ValueError: If one gives no batch of as many rows, or cannot be applied to this one.
    """
    for number, augmentation in enumerate(augmentations):
        batch = augmentation(batch, Random(seed, epoch, number, rows=rows, groups=groups))
        found = {name: np.shape(values)[:1] for name, values in batch.items()} if isinstance(batch, dict) else batch
        if not isinstance(batch, dict) or any(length != (len(rows),) for length in found.values()):
            raise ValueError(f"augment: {augmentation}: expected a dict of arrays of {len(rows)} rows; found {found!r}")
    return batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureAugmentation:
    """An augmentation of some features, all of which are changed alike.

    Attributes:
        features: The name of a feature, or a tuple of names.
    """

    features: str | tuple[str, ...]

    def __call__(self, batch: Batch, rng: Random) -> Batch:
        """Changes the features of a batch; see the class."""
        return batch | {name: self.change(values_of(self, batch, name), rng) for name in names_of(self.features)}

    def change(self, values: Array, rng: Random) -> Array:
        """The values of a feature, changed; they may be changed in place."""
        raise NotImplementedError


def names_of(features: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names of features, of which there may be one."""
    return (features,) if isinstance(features, str) else features


def values_of(augmentation: Any, batch: Batch, name: str) -> Array:
    """The values of a feature.

    Raises:
        ValueError: If there is none of the name.
    """
    if name not in batch:
        who = type(augmentation).__name__
        raise ValueError(f"augment: {who}: expected a feature of {', '.join(sorted(batch))}; found {name!r}")
    return batch[name]


def need(augmentation: Any, fits: bool, expected: str, values: Array) -> None:
    """Raises a ValueError that says what was expected, unless the values fit."""
    if not fits:
        found = f"{values.dtype} of shape {values.shape}"
        raise ValueError(f"augment: {type(augmentation).__name__}: expected {expected}; found {found}")


def need_images(augmentation: Any, values: Array) -> None:
    """Raises a ValueError unless the values are images."""
    need(augmentation, values.ndim >= 3, "images of shape [rows, height, width, ...]", values)


def to_floats(augmentation: Any, values: Array) -> Array:
    """Values as float32, or as float64 where float32 does not hold them."""
    need(augmentation, values.dtype.kind in "iuf", "integers or floats", values)
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def restore_dtype(values: Array, dtype: np.dtype[Any]) -> Array:
    """Floats in a dtype: integers rounded to even, and clipped to what it holds."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        # The greatest int64 is no float64; the next lower one is.
        highest = np.nextafter(float(info.max), 0.0) if dtype.itemsize == 8 else info.max
        values = np.clip(np.rint(values), info.min, highest)
    return values.astype(dtype, copy=False)


def per_row(factors: Array, values: Array) -> Array:
    """One number for each row in the dtype and the number of axes of values."""
    return factors.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))


def need_share(augmentation: Any, name: str) -> None:
    """Raises a ValueError unless an option is in [0, 1]."""
    value = getattr(augmentation, name)
    if not 0 <= value <= 1:
        raise ValueError(f"{type(augmentation).__name__}: {name} is in [0, 1]; found {value!r}")
