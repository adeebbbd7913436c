"""Keeps NumPy's matrix products in the thread that asks for them."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import threadpoolctl

_lock = threading.Lock()
_users = 0
_before: list[int] = []


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets the BLAS library of NumPy use no threads of its own, in the whole process.

    Beam's workers already share the cores, and threads that wait for one another by spinning made the products of 60
    columns and 4,096 rows ten times as slow where another process was running.

    Threads may overlap here, so they are counted: `ThreadpoolController.limit` would restore the limit that another
    thread has set. It takes twice as long as this (80 µs a call), and the product of a unit of rows milliseconds.
    """
    global _users, _before
    libraries = libraries_of_blas()
    with _lock:
        if not _users:
            _before = [library.num_threads for library in libraries]
            _set_threads(libraries, [1] * len(libraries))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _set_threads(libraries, _before)


@functools.cache
def libraries_of_blas() -> tuple[Any, ...]:
    """The BLAS libraries of this process; finding them takes 14 ms."""
    return tuple(threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers)


def _set_threads(libraries: tuple[Any, ...], numbers: list[int]) -> None:
    for library, number in zip(libraries, numbers, strict=True):
        library.set_num_threads(number)
        if hasattr(library, "clear_controlling_thread"):  # OpenBLAS: another thread may be the last to leave
            library.clear_controlling_thread()
