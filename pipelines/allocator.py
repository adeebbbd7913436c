"""Memory that NumPy and TensorFlow free, and soon ask for again."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BYTES = 32 * 2**20
"""The largest block that glibc takes from the heap."""

KEPT_BYTES = 128 * 2**20


def keep_freed_memory() -> None:
    """Lets the C library keep some memory that is freed, where it is glibc.

    Arrays of some megabytes are made and freed for each batch. By default glibc gives their pages back each time, and
    the system has to fill them with zeros again: a tenth to a fifth of the time of a build.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
