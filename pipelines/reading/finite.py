"""The search for infinities, which no statistic and no transform can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError, Problem

Array = npt.NDArray[Any]

CHECK_ELEMENTS = 2**16
"""Elements looked at together: the masks stay in the cache (8 GB/s of float32)."""


def check_finite(array: Array, *, path: str, feature: str, first_row: int, allowed: Sequence[float] = ()) -> None:
    """Looks for infinities in rows of numbers; NaN is a missing value, and dtypes without infinities pass.

    Args:
        array: Rows, [rows, *row shape], of any dtype.
        path: Their file, for the message.
        feature: Their feature, for the message.
        first_row: Which row of the file `array[0]` is.
        allowed: The infinities that stand for a missing value; other numbers say nothing.

    Raises:
        DataError: Naming the first row that holds an infinity, and the value.
    """
    index = find_infinite(array, allowed=allowed)
    if index is not None:
        where = f" at {index[1:]}" if index[1:] else ""
        found = f"{array[index]} in row {first_row + index[0]}{where}"
        raise DataError(str(Problem(path=path, feature=feature, expected="finite values or NaN", found=found)))


def find_infinite(array: Array, *, allowed: Sequence[float] = ()) -> tuple[int, ...] | None:
    """The index of the first infinity that is not allowed, or None; a complex number with one is infinite."""
    if array.dtype.kind not in "fc" or array.size == 0:
        return None
    signs = [sign for sign in (np.inf, -np.inf) if sign not in allowed] if array.dtype.kind == "f" else [np.inf]
    step = max(1, CHECK_ELEMENTS // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        infinite = _infinite(array[start : start + step])
        if infinite.any():
            if array.dtype.kind == "f" and len(signs) < 2:
                infinite = np.isin(array[start : start + step], signs)
                if not infinite.any():
                    continue
            index = tuple(int(i) for i in np.unravel_index(int(np.argmax(infinite)), infinite.shape))
            return (start + index[0], *index[1:])
    return None


def _infinite(values: Array) -> npt.NDArray[np.bool_]:
    if values.dtype == np.float16 and values.dtype.isnative:
        # NumPy has no vector code for float16; on the bits it is 10 times as fast.
        infinite: npt.NDArray[np.bool_] = (values.view(np.uint16) & np.uint16(0x7FFF)) == np.uint16(0x7C00)
    else:
        infinite = np.isinf(values)
    return infinite
