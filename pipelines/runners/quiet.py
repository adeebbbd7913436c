"""Keeps the chatter of TensorFlow, Beam and local workers off the terminal."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


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


def silence_worker_tracebacks() -> None:
    """Keeps Beam's local workers from logging the traceback of an error that the command line reports itself."""
    for name in ("common", "worker", "portability.fn_api_runner", "portability.local_job_service"):
        logging.getLogger(f"apache_beam.runners.{name}").setLevel(logging.CRITICAL)
