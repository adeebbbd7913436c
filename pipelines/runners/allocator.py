"""Memory that TensorFlow and NumPy free, and soon ask for again."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST_BYTES = 32 * 2**20
"""The largest block that glibc takes from the heap."""

KEPT_BYTES = 2**30


def keep_freed_memory(kept_bytes: int = KEPT_BYTES) -> bool:
    """Lets the C library keep memory that is freed, in the whole process, where it is glibc.

    Batches are blocks of some megabytes that are made and freed over and over. By default glibc gives their pages back
    each time, and the system fills them with zeros again: up to half of the processor's time of a pipeline. Threads
    share one heap then, since one thread frees what another has made.

    Call it first in a program, before TensorFlow is imported: heaps that threads have already stay as they are. What
    the parameters mean is in `mallopt(3)`.

    Args:
        kept_bytes: How much freed memory at the end of the heap the process keeps; at most 2 GiB.

    Returns:
        Whether the C library does it; only glibc, on Linux, can.

    Raises:
        ValueError: If `kept_bytes` is not within 0 and 2**31 - 1.
    """
    if not 0 <= kept_bytes < 2**31:
        raise ValueError(f"kept_bytes is within 0 and 2**31 - 1; found {kept_bytes}")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = {M_MMAP_THRESHOLD: LARGEST_BYTES, M_TRIM_THRESHOLD: kept_bytes, M_ARENA_MAX: 1}
    return all(mallopt(parameter, value) for parameter, value in settings.items())
