"""Keeps TensorFlow, Beam and local workers from chatter on the terminal, and from what costs time and memory."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def hidden_stderr() -> Iterator[None]:
    """Hides what is written to the standard error inside the context, by whomever.

    TensorFlow's libraries write lines before logging is set up, and Beam's workers, in threads and processes, the
    traceback of an error that the driver reports.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
    os.close(before)


def keep_off_gpus() -> None:
    """Keeps TensorFlow, where it is imported later, from taking all memory of a GPU: all work here is the CPU's."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextmanager
def without_collector() -> Iterator[None]:
    """Rests Python's collector of cycles, which looks again and again at millions of objects that are no garbage."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def quick_imports() -> Iterator[None]:
    """Imports inside the context take half as long.

    TensorFlow imports Keras 3, with all that it finds installed, unless it is told to leave that to Keras 2, as
    tf.transform does when it is imported.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    with without_collector():
        yield


def give_memory_back() -> None:
    """Lets malloc return what was freed: of statistics of a million groups glibc keeps 0.2 GB for later."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def silence_worker_tracebacks() -> None:
    """Keeps Beam's local workers from logging the traceback of an error that the command line reports itself."""
    for name in ("common", "worker", "portability.fn_api_runner", "portability.local_job_service"):
        logging.getLogger(f"apache_beam.runners.{name}").setLevel(logging.CRITICAL)
