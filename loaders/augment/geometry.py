"""Changes of where the values of an image are: flips and crops. NumPy only."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from loaders.augment.augmentation import Array, FeatureAugmentation, need, need_images, need_share
from loaders.augment.random import Random


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Flip(FeatureAugmentation):
    """Mirrors rows of shape [height, width, ...] along one of these axes."""

    mirrored: ClassVar[tuple[slice, ...]]
    probability: float = 0.5

    def __post_init__(self) -> None:
        need_share(self, "probability")

    def change(self, values: Array, rng: Random) -> Array:
        need_images(self, values)
        flipped = rng.uniform("flip") < self.probability
        values[flipped] = values[flipped][self.mirrored]
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipLeftRight(_Flip):
    """Mirrors images left to right: rows of shape [height, width, ...], any dtype, which stays.

    Attributes:
        features: A name, or a tuple of names that are changed alike.
        probability: How likely a row is mirrored.
    """

    mirrored: ClassVar[tuple[slice, ...]] = (slice(None), slice(None), slice(None, None, -1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipUpDown(_Flip):
    """Mirrors images upside down: rows of shape [height, width, ...], any dtype, which stays.

    Attributes:
        features: A name, or a tuple of names that are changed alike.
        probability: How likely a row is mirrored.
    """

    mirrored: ClassVar[tuple[slice, ...]] = (slice(None), slice(None, None, -1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomCrop(FeatureAugmentation):
    """Cuts a window out of images, everywhere with the same probability.

    Rows of shape [height, width, ...], any dtype but strings, become rows of shape [*size, ...] of that dtype.

    Attributes:
        features: A name, or a tuple of names that are changed alike.
        size: The height and the width of the window.
        padding: How many rows and columns of zeros are put around the image before.
    """

    size: tuple[int, int]
    padding: int = 0

    def __post_init__(self) -> None:
        if min(self.size) < 1 or self.padding < 0:
            raise ValueError(
                f"RandomCrop: size is two numbers of at least 1, and padding at least 0; found {self.size!r} and "
                f"{self.padding!r}"
            )

    def change(self, values: Array, rng: Random) -> Array:
        need_images(self, values)
        need(self, values.dtype != object, "numbers", values)
        pad, (height, width) = self.padding, self.size
        rooms = values.shape[1] + 2 * pad - height, values.shape[2] + 2 * pad - width
        need(self, min(rooms) >= 0, f"images of at least {height} x {width} with a padding of {pad}", values)
        if pad:
            values = np.pad(values, [(0, 0), (pad, pad), (pad, pad), *[(0, 0)] * (values.ndim - 3)])
        top, left = (
            (rng.uniform(name) * (room + 1)).astype(np.int64) for name, room in zip(("top", "left"), rooms, strict=True)
        )
        views = np.lib.stride_tricks.sliding_window_view(values, self.size, axis=(1, 2))
        cropped: Array = np.moveaxis(views, (-2, -1), (3, 4))[np.arange(len(values)), top, left]
        return cropped
