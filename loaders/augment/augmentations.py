"""Random changes of batches: flips, crops, noise, mixing. NumPy only.

An augmentation is any function `f(batch, rng)` from a dict of arrays of shape [rows, *shape], which it may change, and
a `Random` to such a dict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

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
class _Features:
    """An augmentation of some features, all of which are changed alike.

    Attributes:
        features: The name of a feature, or a tuple of names.
    """

    features: str | tuple[str, ...]

    def __call__(self, batch: Batch, rng: Random) -> Batch:
        """Changes the features of a batch; see the class."""
        names = (self.features,) if isinstance(self.features, str) else self.features
        return batch | {name: self._change(_values(self, batch, name), rng) for name in names}

    def _change(self, values: Array, rng: Random) -> Array:
        raise NotImplementedError


def _values(augmentation: Any, batch: Batch, name: str) -> Array:
    if name not in batch:
        who = type(augmentation).__name__
        raise ValueError(f"augment: {who}: expected a feature of {', '.join(sorted(batch))}; found {name!r}")
    return batch[name]


def _need(augmentation: Any, fits: bool, expected: str, values: Array) -> None:
    if not fits:
        found = f"{values.dtype} of shape {values.shape}"
        raise ValueError(f"augment: {type(augmentation).__name__}: expected {expected}; found {found}")


def _need_images(augmentation: Any, values: Array) -> None:
    _need(augmentation, values.ndim >= 3, "images of shape [rows, height, width, ...]", values)


def _floats(augmentation: Any, values: Array) -> Array:
    """Values as float32, or as float64 where float32 does not hold them."""
    _need(augmentation, values.dtype.kind in "iuf", "integers or floats", values)
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def _restore(values: Array, dtype: np.dtype[Any]) -> Array:
    """Floats in a dtype: integers rounded to even, and clipped to what it holds."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        # The greatest int64 is no float64; the next lower one is.
        highest = np.nextafter(float(info.max), 0.0) if dtype.itemsize == 8 else info.max
        values = np.clip(np.rint(values), info.min, highest)
    return values.astype(dtype, copy=False)


def _aligned(factors: Array, values: Array) -> Array:
    """One number for each row in the dtype and the number of axes of values."""
    return factors.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))


def _need_share(augmentation: Any, name: str) -> None:
    value = getattr(augmentation, name)
    if not 0 <= value <= 1:
        raise ValueError(f"{type(augmentation).__name__}: {name} is in [0, 1]; found {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Flip(_Features):
    """Mirrors rows of shape [height, width, ...] along one of these axes."""

    mirrored: ClassVar[tuple[slice, ...]]
    probability: float = 0.5

    def __post_init__(self) -> None:
        _need_share(self, "probability")

    def _change(self, values: Array, rng: Random) -> Array:
        _need_images(self, values)
        flipped = rng.uniform("flip") < self.probability
        values[flipped] = values[flipped][self.mirrored]
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipLeftRight(_Flip):
    """Mirrors images left to right: rows of shape [height, width, ...], any dtype, which stays.

    Attributes:
        features: As in `_Features`.
        probability: How likely a row is mirrored.
    """

    mirrored: ClassVar[tuple[slice, ...]] = (slice(None), slice(None), slice(None, None, -1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipUpDown(_Flip):
    """Mirrors images upside down: rows of shape [height, width, ...], any dtype, which stays.

    Attributes:
        features: As in `_Features`.
        probability: How likely a row is mirrored.
    """

    mirrored: ClassVar[tuple[slice, ...]] = (slice(None), slice(None, None, -1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomCrop(_Features):
    """Cuts a window out of images, everywhere with the same probability.

    Rows of shape [height, width, ...], any dtype but strings, become rows of shape [*size, ...] of that dtype.

    Attributes:
        features: As in `_Features`.
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

    def _change(self, values: Array, rng: Random) -> Array:
        _need_images(self, values)
        _need(self, values.dtype != object, "numbers", values)
        pad, (height, width) = self.padding, self.size
        rooms = values.shape[1] + 2 * pad - height, values.shape[2] + 2 * pad - width
        _need(self, min(rooms) >= 0, f"images of at least {height} x {width} with a padding of {pad}", values)
        if pad:
            values = np.pad(values, [(0, 0), (pad, pad), (pad, pad), *[(0, 0)] * (values.ndim - 3)])
        top, left = (
            (rng.uniform(name) * (room + 1)).astype(np.int64) for name, room in zip(("top", "left"), rooms, strict=True)
        )
        views = np.lib.stride_tricks.sliding_window_view(values, self.size, axis=(1, 2))
        cropped: Array = np.moveaxis(views, (-2, -1), (3, 4))[np.arange(len(values)), top, left]
        return cropped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness(_Features):
    """Adds a number to all values of a row, uniform in [-delta, delta).

    Rows of any shape; integers are rounded and clipped to what their dtype holds, and the dtype stays.

    Attributes:
        features: As in `_Features`.
        delta: In the values' own units: 25.5 is a tenth of what uint8 holds.
    """

    delta: float

    def _change(self, values: Array, rng: Random) -> Array:
        floats = _floats(self, values)
        return _restore(floats + _aligned((2 * rng.uniform("delta") - 1) * self.delta, floats), values.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast(_Features):
    """Moves the values of images away from their mean, or towards it, by a factor that is uniform in [low, high).

    Rows of shape [height, width, ...]; the mean is that of each row and channel over height and width, as in
    `tf.image.adjust_contrast`. Integers are rounded and clipped to what their dtype holds, and the dtype stays.

    Attributes:
        features: As in `_Features`.
        low: The least factor.
        high: The largest one.
    """

    low: float = 0.8
    high: float = 1.2

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"Contrast: expected 0 <= low <= high; found {self.low!r} and {self.high!r}")

    def _change(self, values: Array, rng: Random) -> Array:
        _need_images(self, values)
        floats = _floats(self, values)
        mean = floats.mean(axis=(1, 2), dtype=np.float64, keepdims=True).astype(floats.dtype)
        factors = _aligned(self.low + (self.high - self.low) * rng.uniform("factor"), floats)
        return _restore((floats - mean) * factors + mean, values.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise(_Features):
    """Adds normal noise of mean 0 to every value.

    Rows of any shape; integers are rounded and clipped to what their dtype holds, and the dtype stays.

    Attributes:
        features: As in `_Features`; each gets the same noise.
        deviation: The standard deviation, in the values' own units.
    """

    deviation: float

    def __post_init__(self) -> None:
        if not self.deviation >= 0:
            raise ValueError(f"Noise: deviation is at least 0; found {self.deviation!r}")

    def _change(self, values: Array, rng: Random) -> Array:
        floats = _floats(self, values)
        noise = rng.normal("noise", *values.shape[1:])
        noise *= np.float32(self.deviation)
        return _restore(floats + noise, values.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BandDropout(_Features):
    """Sets bands of spectra to a value: each band, the same for all pixels of a row, on its own.

    Rows of shape [..., bands], numbers of any dtype, which stays. What is left is not scaled.

    Attributes:
        features: As in `_Features`.
        probability: How likely a band is dropped.
        value: What is put in its place.
    """

    probability: float = 0.1
    value: float = 0.0

    def __post_init__(self) -> None:
        _need_share(self, "probability")

    def _change(self, values: Array, rng: Random) -> Array:
        _need(self, values.ndim >= 2 and values.dtype != object, "numbers of shape [rows, ..., bands]", values)
        bands = values.shape[-1]
        dropped = rng.uniform("bands", bands) < self.probability
        shape = (len(values), *[1] * (values.ndim - 2), bands)
        return np.where(dropped.reshape(shape), np.asarray(self.value, values.dtype), values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Mixing:
    """An augmentation that gives a row a part of another one of the batch, and of its label.

    Attributes:
        features: The name of a feature, or a tuple of names, which are mixed alike.
        labels: The name of the labels, or a tuple of names: floats of any shape, one-hot ones in particular. Where
            `classes` is given they may be integers of shape [rows] instead, and become one-hot.
        alpha: The row's own share is of the distribution beta(alpha, alpha).
        classes: How many classes there are, where labels are numbers from 0; labels come out as float32 of shape
            [rows, classes].
    """

    features: str | tuple[str, ...]
    labels: str | tuple[str, ...]
    alpha: float = 1.0
    classes: int | None = None

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"{type(self).__name__}: alpha is above 0; found {self.alpha!r}")

    def _labels(self, batch: Batch, partners: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> Batch:
        result = {}
        for name in (self.labels,) if isinstance(self.labels, str) else self.labels:
            values = _values(self, batch, name)
            if self.classes is not None and values.dtype.kind in "iu" and values.ndim == 1:
                inside = bool(np.all((values >= 0) & (values < self.classes)))
                _need(self, inside, f"classes of 0 to {self.classes - 1} as {name}", values)
                values = (values[:, np.newaxis] == np.arange(self.classes)).astype(np.float32)
            _need(self, values.dtype.kind == "f", f"floats as {name}, or numbers with `classes`", values)
            result[name] = _mixed(values, partners, share)
        return result


def _mixed(values: Array, partners: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> Array:
    """The sum of `share` of each row's own values, and the rest of its partner's."""
    own = _aligned(share, values)
    mixed: Array = own * values + (1 - own) * values[partners]
    return mixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixUp(_Mixing):
    """Mixes every row with another one of the batch: `share * row + (1 - share) * other`, and the labels too.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018; here each row
    has a share of its own. Features are of any shape; integers are rounded, and the dtype stays.

    Attributes:
        features: As in `_Mixing`.
        labels: As in `_Mixing`.
        alpha: As in `_Mixing`.
        classes: As in `_Mixing`.
    """

    alpha: float = 0.2

    def __call__(self, batch: Batch, rng: Random) -> Batch:
        """Mixes the rows of a batch; see the class."""
        share, partners = rng.beta("share", self.alpha), rng.partners("partners")
        result = batch | self._labels(batch, partners, share)
        for name in (self.features,) if isinstance(self.features, str) else self.features:
            values = _values(self, batch, name)
            result[name] = _restore(_mixed(_floats(self, values), partners, share), values.dtype)
        return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutMix(_Mixing):
    """Puts a rectangle of another image of the batch into each, and mixes the labels by the areas.

    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable features", ICCV
    2019; here each row has a rectangle of its own. Its centre is anywhere, what is outside of the image is cut off, and
    the labels' share is that of the area. Features have rows of one [height, width, ...], any dtype, which stays.

    Attributes:
        features: As in `_Mixing`.
        labels: As in `_Mixing`.
        alpha: As in `_Mixing`.
        classes: As in `_Mixing`.
    """

    def __call__(self, batch: Batch, rng: Random) -> Batch:
        """Mixes the rows of a batch; see the class."""
        names = (self.features,) if isinstance(self.features, str) else self.features
        images = {name: _values(self, batch, name) for name in names}
        for values in images.values():
            _need_images(self, values)
        ((height, width), *others) = [values.shape[1:3] for values in images.values()]
        if any(other != (height, width) for other in others):
            raise ValueError(f"augment: CutMix: expected images of {height} x {width} alone; found {others}")
        partners = rng.partners("partners")
        side = np.sqrt(1 - rng.beta("share", self.alpha))
        rows, columns = _inside(rng.uniform("top"), side, height), _inside(rng.uniform("left"), side, width)
        share = 1 - rows.sum(axis=1) * columns.sum(axis=1) / (height * width)
        inside = rows[:, :, np.newaxis] & columns[:, np.newaxis, :]
        result = batch | self._labels(batch, partners, share)
        for name, values in images.items():
            mask = inside.reshape(*inside.shape, *[1] * (values.ndim - 3))
            result[name] = np.where(mask, values[partners], values)
        return result


def _inside(centre: npt.NDArray[np.float64], side: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.bool_]:
    """Which places of an axis are in an interval: bool of shape [rows, size].

    Args:
        centre: The middle of each row's, as a share of the axis.
        side: Its length, as a share of the axis.
        size: The length of the axis.
    """
    middle, half = np.floor(centre * size), np.floor(side * size) / 2
    places = np.arange(size)
    low, high = np.ceil(middle - half), np.ceil(middle + half)
    inside: npt.NDArray[np.bool_] = (places >= low[:, np.newaxis]) & (places < high[:, np.newaxis])
    return inside
