"""Memory for windows and batches that is used again once no array holds it."""

from __future__ import annotations

import math
import os
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
"""TensorFlow takes an array as it is where its address is a multiple of this."""

REUSED_BYTES = 1 << 18
"""From so many bytes on memory is used again. To clear the pages of a new window takes longer than to copy its rows."""

MOST_BUFFERS = 16
"""How many buffers are held for the next use; what is asked for beyond them is freed when nobody holds it."""


class Buffers:
    """Arrays in memory that is used again. Threads may share it; a pickled copy is empty.

    A buffer is free when nobody but this object has a reference to the array that owns it: every view that NumPy makes,
    also one of a view, has one, and so has a tensor of TensorFlow, PyTorch or JAX that shares the memory of a view.
    """

    def __init__(self) -> None:
        self._owners: list[npt.NDArray[np.uint8]] = []
        self._lock, self._process = threading.Lock(), os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return Buffers, ()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An array whose values are not said, aligned to `ALIGNMENT` unless it is empty."""
        size = math.prod(shape) * dtype.itemsize
        owner = _owner(size) if size < REUSED_BYTES else self._free(size)
        first = -owner.__array_interface__["data"][0] % ALIGNMENT
        return owner[first : first + size].view(dtype).reshape(shape)

    def _free(self, size: int) -> npt.NDArray[np.uint8]:
        if self._process != os.getpid():
            # A thread of the process that was forked may have held the lock.
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            owners = self._owners
            for place in range(len(owners)):
                # None that is far too large: it may be what the next window needs.
                if size + ALIGNMENT <= owners[place].nbytes <= 2 * size and sys.getrefcount(owners[place]) == _IDLE:
                    owners.append(owners.pop(place))
                    return owners[-1]
            owner = _owner(size)
            if len(owners) == MOST_BUFFERS:
                del owners[0]
            owners.append(owner)
            return owner


def _owner(size: int) -> npt.NDArray[np.uint8]:
    return np.empty(size + ALIGNMENT, dtype=np.uint8)


def _idle_references() -> int:
    """How many references `sys.getrefcount` counts of what is in a list alone; Python versions differ."""
    owners = [_owner(0)]
    return sys.getrefcount(owners[0])


_IDLE = _idle_references()
