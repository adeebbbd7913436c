"""Keeps NumPy's matrix products in the thread that asks for them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

_lock = threading.Lock()
_users = 0
_before = 0


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets OpenBLAS, which NumPy's wheels bring, use no threads of its own; nothing where NumPy has another library.

    Beam's workers already share the cores, and threads that wait for one another by spinning made the products of 60
    columns and 4,096 rows ten times as slow where another process was running.
    """
    global _users, _before
    functions = _functions()
    if functions is None:
        yield
        return
    get_threads, set_threads = functions
    with _lock:  # the number is that of the process
        if not _users:
            _before = get_threads()
            set_threads(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                set_threads(_before)


@functools.cache
def _functions() -> tuple[Any, Any] | None:
    """OpenBLAS's functions that get and set the number of threads."""
    try:
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]  # NumPy names no path
    except (AttributeError, OSError):
        return None
    for prefix, suffix in (("scipy_openblas", "64_"), ("scipy_openblas", ""), ("openblas", "64_"), ("openblas", "")):
        get_threads = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
        set_threads = getattr(library, f"{prefix}_set_num_threads{suffix}", None)
        if get_threads is not None and set_threads is not None:
            return get_threads, set_threads
    return None
