"""Changes that give a row a part of another one of the batch, and of its label. NumPy only."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from loaders.augment.augmentation import (
    Array,
    Batch,
    names_of,
    need,
    need_images,
    per_row,
    restore_dtype,
    to_floats,
    values_of,
)
from loaders.augment.random import Random


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RowBlend:
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

    def _blend_labels(self, batch: Batch, partners: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> Batch:
        result = {}
        for name in names_of(self.labels):
            values = values_of(self, batch, name)
            if self.classes is not None and values.dtype.kind in "iu" and values.ndim == 1:
                inside = bool(np.all((values >= 0) & (values < self.classes)))
                need(self, inside, f"classes of 0 to {self.classes - 1} as {name}", values)
                values = (values[:, np.newaxis] == np.arange(self.classes)).astype(np.float32)
            need(self, values.dtype.kind == "f", f"floats as {name}, or numbers with `classes`", values)
            result[name] = _blend(values, partners, share)
        return result


def _blend(values: Array, partners: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> Array:
    """The sum of `share` of each row's own values, and the rest of its partner's."""
    own = per_row(share, values)
    blended: Array = own * values + (1 - own) * values[partners]
    return blended


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixUp(_RowBlend):
    """Mixes every row with another one of the batch: `share * row + (1 - share) * other`, and the labels too.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018; here each row
    has a share of its own. Features are of any shape; integers are rounded, and the dtype stays.

    Attributes:
        features: As in `_RowBlend`.
        labels: As in `_RowBlend`.
        alpha: As in `_RowBlend`.
        classes: As in `_RowBlend`.
    """

    alpha: float = 0.2

    def __call__(self, batch: Batch, rng: Random) -> Batch:
        """Mixes the rows of a batch; see the class."""
        share, partners = rng.beta("share", self.alpha), rng.partners("partners")
        result = batch | self._blend_labels(batch, partners, share)
        for name in names_of(self.features):
            values = values_of(self, batch, name)
            result[name] = restore_dtype(_blend(to_floats(self, values), partners, share), values.dtype)
        return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutMix(_RowBlend):
    """Puts a rectangle of another image of the batch into each, and mixes the labels by the areas.

    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable features", ICCV
    2019; here each row has a rectangle of its own. Its centre is anywhere, what is outside of the image is cut off, and
    the labels' share is that of the area. Features have rows of one [height, width, ...], any dtype, which stays.

    Attributes:
        features: As in `_RowBlend`.
        labels: As in `_RowBlend`.
        alpha: As in `_RowBlend`.
        classes: As in `_RowBlend`.
    """

    def __call__(self, batch: Batch, rng: Random) -> Batch:
        """Mixes the rows of a batch; see the class."""
        names = names_of(self.features)
        images = {name: values_of(self, batch, name) for name in names}
        for values in images.values():
            need_images(self, values)
        ((height, width), *others) = [values.shape[1:3] for values in images.values()]
        if any(other != (height, width) for other in others):
            raise ValueError(f"augment: CutMix: expected images of {height} x {width} alone; found {others}")
        partners = rng.partners("partners")
        side = np.sqrt(1 - rng.beta("share", self.alpha))
        rows, columns = _inside(rng.uniform("top"), side, height), _inside(rng.uniform("left"), side, width)
        share = 1 - rows.sum(axis=1) * columns.sum(axis=1) / (height * width)
        inside = rows[:, :, np.newaxis] & columns[:, np.newaxis, :]
        result = batch | self._blend_labels(batch, partners, share)
        for name, values in images.items():
            mask = inside.reshape(*inside.shape, *[1] * (values.ndim - 3))
            result[name] = np.where(mask, values[partners], values)
        return result


def _inside(centre: npt.NDArray[np.float64], side: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.bool_]:
    """Which places of an axis of some size are in each row's interval, in shares of the axis: bool [rows, size]."""
    middle, half = np.floor(centre * size), np.floor(side * size) / 2
    places = np.arange(size)
    low, high = np.ceil(middle - half), np.ceil(middle + half)
    inside: npt.NDArray[np.bool_] = (places >= low[:, np.newaxis]) & (places < high[:, np.newaxis])
    return inside
