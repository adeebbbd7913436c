"""What the rows of a feature are to a person: images, cubes, curves, text or numbers; and pictures of them."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from loaders.format.spec import FeatureSpec
from pipelines.reading.batches import Ragged

if TYPE_CHECKING:
    from PIL import Image

Array = npt.NDArray[Any]
Shape = Literal["image", "cube", "curve", "text", "number", "numbers"]

LEAST_SIDE = 6
"""Smaller matrices are no images."""

LEAST_STEPS = 16
SMOOTH = 0.5
"""Neighbours of a curve differ by less than this part of the deviation over the row."""

MOST_CURVES = 8
OUTER = (2, 98)
"""The percentiles that are shown black and white."""


def shape_of(spec: FeatureSpec, rows: Array | Ragged) -> Shape:
    """What rows of a feature look like, judged by their shape, dtype and some values."""
    if spec.dtype == "string":
        return "text"
    if spec.dtype.startswith("complex") or spec.shape == ():
        return "number" if spec.shape == () else "numbers"
    sides = spec.inner_shape
    if spec.ragged:
        return "curve" if len(sides) == 0 or (len(sides) == 1 and sides[0] <= MOST_CURVES) else "numbers"
    if len(sides) == 2 and min(sides) >= LEAST_SIDE and not (sides[1] <= MOST_CURVES and sides[0] >= LEAST_STEPS):
        return "image"
    if len(sides) == 3 and min(sides[:2]) >= LEAST_SIDE:
        return "image" if sides[2] <= 4 else "cube"
    if len(sides) == 3 and sides[0] in (1, 3, 4) and min(sides[1:]) >= LEAST_SIDE:
        return "image"
    if len(sides) in (1, 2) and sides[0] >= LEAST_STEPS and not isinstance(rows, Ragged):
        return "curve" if _smooth(rows) else "numbers"
    return "numbers"


def single_rows(rows: Array | Ragged, numbers: Iterable[int]) -> list[Any]:
    """Rows one by one; each of a `Ragged` in its own length."""
    return [rows[number : number + 1].values if isinstance(rows, Ragged) else rows[number] for number in numbers]


def _smooth(rows: Array) -> bool:
    """Whether neighbours along the first axis of a row are alike, as those of spectra and series are."""
    some = rows[:64].astype(np.float64)
    there = np.isfinite(some)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.where(there, some, 0).sum(axis=1, keepdims=True) / count
        deviation = np.sqrt((np.where(there, some - mean, 0) ** 2).sum(axis=1, keepdims=True) / count)
        steps = np.abs(np.diff(some, axis=1))
        ratio = steps / np.where(deviation > 0, deviation, np.nan)
    known = ratio[np.isfinite(ratio)]
    return bool(known.size) and float(np.median(known)) < SMOOTH


def as_pixels(row: Array, limits: tuple[Array, Array]) -> npt.NDArray[np.uint8]:
    """An image or a cube as uint8 `[height, width, 3]`; of a cube three bands stand for red, green and blue.

    A row is `[height, width]`, `[height, width, channels]`, or `[1, 3 or 4, height, width]`. What is black and what is
    white is as `limits_of` gives it.
    """
    planes = _planes(row[np.newaxis])[0]
    low, high = limits
    span = np.where(high > low, high - low, 1.0)
    with np.errstate(invalid="ignore"):
        scaled = (planes.astype(np.float64) - low) / span
    shown = (np.clip(np.nan_to_num(scaled, nan=0.0), 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def limits_of(rows: Array) -> tuple[Array, Array]:
    """What is black and what is white in pictures of some rows: of bytes 0 and 255, else percentiles of each band."""
    if rows.dtype == np.uint8 and (rows.ndim == 3 or min(rows.shape[1], rows.shape[-1]) <= 4):
        return np.array(0.0), np.array(255.0)
    planes = _planes(rows[:64]).astype(np.float64)
    flat = planes.reshape(-1, planes.shape[-1])
    flat = np.where(np.isfinite(flat), flat, np.nan)
    flat = flat[:, ~np.isnan(flat).all(axis=0)] if np.isnan(flat).all(axis=0).any() else flat
    if not flat.size:
        return np.array(0.0), np.array(1.0)
    low, high = np.nanpercentile(flat, OUTER, axis=0)
    if np.any(high <= low):  # a picture that is empty but for a few pixels
        low, high = np.nanmin(flat, axis=0), np.nanmax(flat, axis=0)
    return low, high


def _planes(rows: Array) -> Array:
    """Rows as `[rows, height, width, 1 or 3]`."""
    if rows.ndim == 3:
        return rows[..., np.newaxis]
    if rows.shape[-1] > 4 and rows.shape[1] in (1, 3, 4):
        rows = np.moveaxis(rows, 1, -1)
    bands = rows.shape[-1]
    if bands == 1:
        return rows
    if bands == 2:
        return rows[..., :1]
    return rows[..., :3] if bands <= 4 else rows[..., [bands * 3 // 4, bands // 2, bands // 4]]


def shrink(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Every n-th pixel, such that no side is longer than `side`."""
    step = max(-(-max(pixels.shape[:2]) // side), 1)
    return pixels[::step, ::step]


def to_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file of `[height, width, 3]`."""
    from PIL import Image  # only where there is a picture

    return encode_png(Image.fromarray(pixels))


def encode_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file of an image of Pillow."""
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


def curves_of(row: Array) -> list[Array]:
    """The curves of a row, each `[steps]`: one for each channel."""
    channels = row.reshape(len(row), math.prod(row.shape[1:]))[:, :MOST_CURVES]
    return [channels[:, number].astype(np.float64) for number in range(channels.shape[1])]


def as_number(value: float, *, digits: int) -> str:
    """A number of a few digits, without an exponent where that is short; "-" for none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if 10 ** (digits - 1) <= abs(value) < 1e9 else f"{value:.{digits}g}"


def as_time(value: float, unit: str) -> str:
    """What a number of steps of a unit of NumPy's times is, such as `datetime64[D]`; empty for other units."""
    if not unit.startswith("datetime64[") or not math.isfinite(value):
        return ""
    with contextlib.suppress(ValueError, OverflowError):  # beyond the years that NumPy knows
        return str(np.array(round(value), np.int64).astype(unit))
    return ""


def as_text(value: Any, *, most: int = 80) -> str:
    """A value, or the first ones of an array, as a person reads them."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[: most - 1]}…"
    if isinstance(value, np.ndarray) and value.ndim:
        flat = value.reshape(-1)
        shown = ", ".join(as_text(element, most=24) for element in flat[:6].tolist())
        return f"{shown}, … ({flat.size:,})" if flat.size > 6 else shown
    if isinstance(value, (float, np.floating)):
        return "missing" if np.isnan(value) else f"{value:.5g}"
    if isinstance(value, complex):
        return f"{value:.4g}"
    return str(value)
