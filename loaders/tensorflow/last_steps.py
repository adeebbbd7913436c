"""The last steps of every `tf.data` pipeline of this package: how it runs, where its batches go, and how it ends."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from loaders.buffers import ALIGNMENT

GPU = "/gpu:0"

QUIET_SECONDS = 0.02
"""Where TensorFlow has called nothing for so long, it waits for room to put what it got."""


def deliver(
    dataset: tf.data.Dataset, *, map_fn: Callable[..., Any] | None, prefetch: int, device: str | None
) -> tf.data.Dataset:
    """The user's function, prefetching, and the copy to a device; `loaders.load` says what each option means."""
    if map_fn is not None:
        dataset = dataset.map(map_fn, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if prefetch:
        dataset = dataset.prefetch(prefetch)
    dataset, device = untuned(dataset), device_of(device)
    if device is None:
        return dataset
    # It must be the last step. The copy is behind a generator, of which tf.data does not know that it keeps the number.
    return with_cardinality(dataset.apply(tf.data.experimental.prefetch_to_device(device)), dataset.cardinality())


def device_of(device: str | None) -> str | None:
    """The device that batches are copied to; None where they stay in the host's memory."""
    if device == "auto":
        return GPU if tf.config.list_physical_devices("GPU") else None
    return device or None


def tensors(batch: Any) -> Any:
    """A batch of NumPy arrays as tensors: of their memory, where it is aligned for TensorFlow, and else of a copy."""
    if isinstance(batch, dict):
        return {name: tensors(values) for name, values in batch.items()}
    if isinstance(batch, tuple):
        return tuple(tensors(values) for values in batch)
    aligned = batch.__array_interface__["data"][0] % ALIGNMENT == 0
    if batch.dtype == object or not (aligned and batch.flags.c_contiguous and batch.flags.writeable):
        return tf.convert_to_tensor(batch)
    return tf.experimental.dlpack.from_dlpack(batch.__dlpack__())


def check_device(device: str | None) -> None:
    """Checks that there is the device that batches are put on.

    Raises:
        ValueError: If there is none of the name.
    """
    if device in (None, "", "auto"):
        return
    known = [f"/{kind.lower()}:{number}" for kind in ("CPU", "GPU", "TPU") for number in range(_count(kind))]
    try:
        found = tf.DeviceSpec.from_string(str(device).replace("/device:", "/") if device[:1] == "/" else f"/{device}")
        there = int(found.device_index or 0) < _count(found.device_type or "CPU")
    except ValueError:
        there = False
    if not there:
        raise ValueError(f"device is one of {', '.join(known)}, 'auto', or None; found {device!r}")


def _count(kind: str) -> int:
    return len(tf.config.list_logical_devices(kind))


def with_cardinality(dataset: tf.data.Dataset, count: tf.Tensor) -> tf.data.Dataset:
    """Lets a data set, which is the last of a pipeline, say how many elements it has.

    `tf.data.experimental.assert_cardinality` does not do: it is no step that may follow the copy to a device, and it
    makes an error of an iterator that resumes within an epoch and so has fewer. Left unknown, `len` is an error, and
    Keras takes the length of the first, resumed epoch for that of all.
    """
    dataset.cardinality = lambda: count
    return dataset


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """A data set whose elements come in one order, without `tf.data`'s autotuning, and that no other process may run.

    The thread that tunes is not always woken when an iterator ends: the iterator then lasts until that thread next
    looks, which it does ever less often, up to once a minute. What is not said to run a number of times in parallel
    runs as often as there are cores. Its iterators end before the program does.

    `tf.data`'s service refuses it when it is handed over: its workers would not find the Python that reads the rows.
    `loaders.tfrecords` is for them.
    """
    settings = tf.data.Options()
    settings.deterministic = True
    settings.autotune.enabled = False
    settings.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.FAIL
    return dataset.with_options(settings)


class _Calls:
    """The calls of Python by threads of TensorFlow that go on now.

    An iterator that is deleted waits for the calls that its threads have begun. One that begins when Python is ending
    never returns, and the program would hang. So before that no call does anything any more, and those that go on are
    waited for; what TensorFlow keeps ready is then full of errors, and it calls no more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running, self._begun, self._ends = 0, 0, False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """What runs inside is a call."""
        with self._changed:
            self._begun += 1
            if self._ends:
                raise RuntimeError("the program is ending")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._ends = True
            self._changed.wait_for(lambda: not self._running)
        before = -1
        while before != self._begun:
            before = self._begun
            time.sleep(QUIET_SECONDS)


_CALLS = _Calls()
atexit.register(_CALLS.close)


def called(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function for threads of TensorFlow to call: it fails, and does nothing, when the program ends."""

    def call(*values: Any) -> Any:
        with _CALLS.running():
            return function(*values)

    return call
