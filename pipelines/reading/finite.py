"""The search for infinities, which no statistic and no transform can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CHECK_ELEMENTS = 2**16
"""Elements looked at together: the masks stay in the cache (8 GB/s of float32)."""


def find_infinite(array: Array, *, allowed: Sequence[float] = ()) -> tuple[int, ...] | None:
    """The index of the first infinity that is not allowed, in an array of any dtype, of one axis at least; or None.

    NaN is a missing value, and a complex number with an infinity is infinite.
    """
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
