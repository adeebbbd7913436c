"""Iterators of `tf.data` that are still there when a program ends."""

from __future__ import annotations

import atexit
import functools
import gc
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@functools.cache
def end_iterators_at_exit() -> None:
    """Lets iterators end before Python does, where a program still has some then.

    An iterator that is deleted waits for the calls that its threads have begun. Where one of these calls is of Python,
    and Python is ending, it never returns, and the program would hang.
    """
    atexit.register(_end_iterators)


def _end_iterators() -> None:
    kinds = {tf.data.Iterator, *_below(tf.data.Iterator)}
    for found in gc.get_objects():
        if type(found) in kinds:
            vars(found).pop("_iterator_resource", None)


def _below(kind: Any) -> Iterator[Any]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)
