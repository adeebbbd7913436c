"""What an analyzer is called with: dense tensors of rows, one or several, which values are missing, and groups."""

from __future__ import annotations

import contextlib
import operator
import pathlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from pipelines.analyzers.recorded_calls import name_of
from pipelines.statistics.summary import Over, statistics_axes
from pipelines.steps import graph_ops
from pipelines.steps.step import ValueSpec

Tensors = Any
"""A tensor, a mapping of names to tensors, or a sequence of tensors; what is returned has the same form."""

FRAMES = 12
"""How many calls there are at most between an analyzer and the line of its caller."""

Missing = Any
"""Which values are missing besides NaN: numbers, or a bool tensor of values or of whole rows; None for no others."""


def flatten(x: Tensors, name: str) -> tuple[list[str], list[tf.Tensor], Callable[[list[Any]], Any]]:
    """The tensors of an argument of the analyzer of a name.

    Returns:
        What each is called in errors, the tensors, and a function that brings results into the argument's form.

    Raises:
        ValueError: If there is something else among them than dense tensors of rows of a known shape, or nothing.
    """
    back: Callable[[list[Any]], Any]
    if isinstance(x, Mapping):
        tensors, labels = list(x.values()), [str(key) for key in x]
        back = lambda found: dict(zip(x, found, strict=True))  # noqa: E731
    else:
        several = isinstance(x, Sequence)
        tensors, back = (list(x), list) if several else ([x], operator.itemgetter(0))
        labels = [name_of(tensor) or str(number) * several for number, tensor in enumerate(tensors)]
    labels = [f"{name} of {label}" if label else name for label in labels]
    if not tensors:
        raise ValueError(f"{name}: expected a tensor; found none")
    for label, tensor in zip(labels, tensors, strict=True):
        if not isinstance(tensor, tf.Tensor) or not tensor.shape.rank or None in tensor.shape[1:]:
            raise ValueError(f"{label}: expected a dense tensor [batch, ...] of known shape; found {tensor}")
    place = _caller()
    return [label + place for label in labels], tensors, back


def _caller() -> str:
    """Where an analyzer is called, for errors of the analysis: the rows are read much later."""
    for frame in reversed(traceback.extract_stack(limit=FRAMES)):
        if pathlib.Path(frame.filename).parent != pathlib.Path(__file__).parent:
            return f" ({frame.filename}, line {frame.lineno})"
    return ""


def mark_all(
    labels: Sequence[str], tensors: Sequence[tf.Tensor], missing: Missing
) -> list[tuple[tf.Tensor, tf.Tensor | None]]:
    """Tensors of numbers, `[batch, *shape]`, with NaN for each that is missing.

    Returns:
        For each a float tensor, or integers of which none is missing; and where values are missing, or None where none
        can be.

    Raises:
        ValueError: If `missing` is a tensor of another dtype or shape than one of them.
    """
    marked = []
    for label, tensor in zip(labels, tensors, strict=True):
        with labelled(label):
            x = numbers(tensor)
            absent = tf.math.is_nan(x) if x.dtype.is_floating else None
            if missing is not None:
                found = _declared(x, missing)
                absent = found if absent is None else absent | found
                x = x if x.dtype.is_floating else tf.cast(x, tf.float64)
                x = tf.where(absent, tf.constant(float("nan"), x.dtype), x)
        marked.append((x, absent))
    return marked


@contextlib.contextmanager
def labelled(label: str) -> Iterator[None]:
    """Gives a ValueError inside the label of a tensor."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _declared(x: tf.Tensor, missing: Missing) -> tf.Tensor:
    if isinstance(missing, tf.Tensor):
        if missing.shape.rank == 1 and x.shape.rank > 1:  # of whole rows
            missing = tf.broadcast_to(tf.reshape(missing, [-1, *[1] * (x.shape.rank - 1)]), tf.shape(x))
        if missing.dtype != tf.bool or not missing.shape.is_compatible_with(x.shape):
            raise ValueError(f"missing: expected bool {x.shape}; found {missing.dtype.name} {missing.shape}")
        return missing
    values = [float(value) for value in (missing if isinstance(missing, Sequence) else [missing])]
    found = tf.zeros_like(x, tf.bool)
    for value in values:
        if x.dtype.is_floating or (value.is_integer() and x.dtype.min <= value <= x.dtype.max):
            found |= x == tf.cast(tf.constant(value, tf.float64), x.dtype)
    return found


def numbers(x: tf.Tensor) -> tf.Tensor:
    """A tensor in a dtype that NumPy has too, bools as integers.

    Raises:
        ValueError: If it holds no real numbers.
    """
    if x.dtype in (tf.bool, tf.bfloat16):
        return tf.cast(x, tf.uint8 if x.dtype == tf.bool else tf.float32)
    if not (x.dtype.is_floating or x.dtype.is_integer):
        raise ValueError(f"expected numbers; found {x.dtype.name}")
    return x


def value_of(x: tf.Tensor, over: Over) -> ValueSpec:
    """What a step of a feature's transform takes, for a tensor.

    Raises:
        ValueError: If the rows have not the axes that are named.
    """
    shape = tuple(x.shape[1:])
    statistics_axes(over, shape)
    return ValueSpec(dtype=x.dtype.name, shape=shape, over=over)


def keys_of_groups(by: tf.Tensor | None) -> tf.Tensor | None:
    """The key of each row's group, int64.

    Raises:
        ValueError: If there is not one integer, bool or string a row.
    """
    if by is None:
        return None
    if (
        not isinstance(by, tf.Tensor)
        or by.shape.rank != 1
        or not (by.dtype.is_integer or by.dtype in (tf.bool, tf.string))
    ):
        raise ValueError(f"by: expected one integer, bool or string a row; found {by}")
    return graph_ops.group_keys(by)


def output_dtype(x: tf.Tensor, dtype: tf.DType | None) -> tf.DType:
    """What results are rounded to: float64 for float64, otherwise float32, which tf.transform's schema has."""
    if dtype is not None:
        return tf.dtypes.as_dtype(dtype)
    return tf.float64 if x.dtype == tf.float64 else tf.float32
