"""A feature as the sources have it: what their headers say, before anything is chosen."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from pipelines.config.window import Cut

Origin = Literal["files", "index", "directory", "constant"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feature:
    """What all arrays of a feature have in common.

    Attributes:
        dtype: The dtype in this machine's byte order; of strings the widest, `S` or `U`; of times int64.
        shape: The shape of one row; the first axis is None where each row has its own length.
        row_axes: How many leading axes of an array count rows; 0 where each array is one row.
        window: What of an array a row holds, where rows are cut from it; the first axes of its shape are the window's.
        unit: What an integer counts, such as `datetime64[ns]`; or "".
        origin: Where the values come from: `files`, or the row's `index`, its `directory`, or a `constant`.
        average_bytes: The average bytes of a row where rows differ in them.
        files: The patterns of its files, where they are not found by its name alone.
        why: How its layout was recognised, where nobody has said it; or "".
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    row_axes: int
    unit: str = ""
    origin: Origin = "files"
    constant: bool | int | float | None = None
    average_bytes: float | None = None
    files: tuple[str, ...] | None = None
    why: str = ""
    window: Cut | None = None

    @property
    def kind_name(self) -> str:
        """The dtype as one of `loaders.format.spec.DTYPES`."""
        return "string" if self.dtype.kind in "SU" else self.dtype.name

    @property
    def ragged(self) -> bool:
        """Whether each row has its own length along the first axis."""
        return self.shape[:1] == (None,)

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """The shape of a row without the axis that varies."""
        return tuple(size for size in self.shape if size is not None)

    @property
    def row_bytes(self) -> float:
        """The bytes of one row in its file, on average."""
        if self.average_bytes is not None:
            return self.average_bytes
        return math.prod(self.inner_shape) * self.dtype.itemsize
