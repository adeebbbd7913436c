"""Keeps the chatter of TensorFlow and Beam off the terminal."""

from __future__ import annotations

import logging
import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Imports TensorFlow, without a GPU and without the lines that its libraries write before logging is set up.

    A build computes on the CPU; a GPU that TensorFlow can see would have all its memory taken. What was written to
    the standard error is shown after all if the import fails.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            hidden.seek(0)
            os.write(kept, hidden.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def silence_worker_tracebacks() -> None:
    """Keeps Beam's local workers from logging the traceback of an error that the command line reports itself."""
    for name in ("common", "worker", "portability.fn_api_runner", "portability.local_job_service"):
        logging.getLogger(f"apache_beam.runners.{name}").setLevel(logging.CRITICAL)
