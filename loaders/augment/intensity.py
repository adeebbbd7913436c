"""Changes of the values of a row: brightness, contrast, noise, bands that are dropped. NumPy only."""

from __future__ import annotations

import dataclasses

import numpy as np

from loaders.augment.augmentation import (
    Array,
    FeatureAugmentation,
    need,
    need_images,
    need_share,
    per_row,
    restore_dtype,
    to_floats,
)
from loaders.augment.random import Random


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness(FeatureAugmentation):
    """Adds a number to all values of a row, uniform in [-delta, delta).

    Rows of any shape; integers are rounded and clipped to what their dtype holds, and the dtype stays.

    Attributes:
        features: A name, or a tuple of names that are changed alike.
        delta: In the values' own units: 25.5 is a tenth of what uint8 holds.
    """

    delta: float

    def change(self, values: Array, rng: Random) -> Array:
        floats = to_floats(self, values)
        return restore_dtype(floats + per_row((2 * rng.uniform("delta") - 1) * self.delta, floats), values.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast(FeatureAugmentation):
    """Moves the values of images away from their mean, or towards it, by a factor that is uniform in [low, high).

    Rows of shape [height, width, ...]; the mean is that of each row and channel over height and width, as in
    `tf.image.adjust_contrast`. Integers are rounded and clipped to what their dtype holds, and the dtype stays.

    Attributes:
        features: A name, or a tuple of names that are changed alike.
        low: The least factor.
        high: The largest one.
    """

    low: float = 0.8
    high: float = 1.2

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"Contrast: expected 0 <= low <= high; found {self.low!r} and {self.high!r}")

    def change(self, values: Array, rng: Random) -> Array:
        need_images(self, values)
        floats = to_floats(self, values)
        mean = floats.mean(axis=(1, 2), dtype=np.float64, keepdims=True).astype(floats.dtype)
        factors = per_row(self.low + (self.high - self.low) * rng.uniform("factor"), floats)
        return restore_dtype((floats - mean) * factors + mean, values.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise(FeatureAugmentation):
    """Adds normal noise of mean 0 to every value.

    Rows of any shape; integers are rounded and clipped to what their dtype holds, and the dtype stays.

    Attributes:
        features: A name, or a tuple of names that are changed alike; each gets the same noise.
        deviation: The standard deviation, in the values' own units.
    """

    deviation: float

    def __post_init__(self) -> None:
        if not self.deviation >= 0:
            raise ValueError(f"Noise: deviation is at least 0; found {self.deviation!r}")

    def change(self, values: Array, rng: Random) -> Array:
        floats = to_floats(self, values)
        noise = rng.normal("noise", *values.shape[1:])
        noise *= np.float32(self.deviation)
        return restore_dtype(floats + noise, values.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BandDropout(FeatureAugmentation):
    """Sets bands of spectra to a value: each band, the same for all pixels of a row, on its own.

    Rows of shape [..., bands], numbers of any dtype, which stays. What is left is not scaled.

    Attributes:
        features: A name, or a tuple of names that are changed alike.
        probability: How likely a band is dropped.
        value: What is put in its place.
    """

    probability: float = 0.1
    value: float = 0.0

    def __post_init__(self) -> None:
        need_share(self, "probability")

    def change(self, values: Array, rng: Random) -> Array:
        need(self, values.ndim >= 2 and values.dtype != object, "numbers of shape [rows, ..., bands]", values)
        bands = values.shape[-1]
        dropped = rng.uniform("bands", bands) < self.probability
        shape = (len(values), *[1] * (values.ndim - 2), bands)
        return np.where(dropped.reshape(shape), np.asarray(self.value, values.dtype), values)
