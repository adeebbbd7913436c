"""A step of a feature's transform, learned from all rows by an analyzer and applied to a batch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.analyzers.engine import run_passes
from pipelines.analyzers.recorded_calls import note_step
from pipelines.analyzers.tensors import (
    Missing,
    Tensors,
    flatten,
    keys_of_groups,
    labelled,
    mark_all,
    output_dtype,
    value_of,
)
from pipelines.statistics.groups import GroupsAndAll
from pipelines.statistics.passes import Arrays, Subject
from pipelines.statistics.summary import Over
from pipelines.steps import graph_ops
from pipelines.steps.step import MomentStep, Step, ValueSpec


def mapped(
    x: Tensors,
    step: Step,
    *,
    over: Over,
    by: tf.Tensor | None = None,
    missing: Missing = None,
    dtype: tf.DType | None = None,
) -> Any:
    """What a step makes of tensors, after it has learned from all rows; integers are int64, and -1 for what is missing.

    `dtype` is that of results that are no integers. What does not fit the step is a ValueError.
    """
    name = step.analyzer or "normalize"
    labels, tensors, back = flatten(x, name)
    keys = keys_of_groups(by)
    as_they_are = missing is None and "float64" not in step.inputs
    marked = [(tensor, None) for tensor in tensors] if as_they_are else mark_all(labels, tensors, missing)
    values = [value_of(found, over) for found, _ in marked]
    for label, value in zip(labels, values, strict=True):
        with labelled(label):
            if not step.takes(value.dtype):
                raise ValueError(f"expected {' or '.join(sorted(step.inputs))}; found {value.dtype}")
            step.output(value)
    learns = step.estimator(values[0]) is not None
    if not learns:
        constants_of = [_said(step, value, found) for value, (found, _) in zip(values, marked, strict=True)]
    else:
        subjects = [subject_of(label, step, value, keys) for label, value in zip(labels, values, strict=True)]
        constants_of = run_passes(subjects, [found for found, _ in marked], keys, name=name)
    results = []
    pairs = zip(tensors, marked, values, constants_of, strict=True)
    for number, (tensor, (found, gone), value, constants) in enumerate(pairs):
        integers = step.output(value).dtype == "int64"
        result = tf.cast(step.apply(step.cast(found), constants), tf.int64 if integers else output_dtype(tensor, dtype))
        if integers and gone is not None:
            result = tf.where(gone, tf.constant(-1, result.dtype), result)
        results.append(note_step(step, tensor, result, tensor=number if learns else None))
    return back(results)


def _said(step: Step, value: ValueSpec, like: tf.Tensor) -> dict[str, tf.Tensor]:
    """The constants of a step that learns nothing, of which TensorFlow does not know that they are constants."""
    constants = step.fit({}, value)
    return {
        name: tf.reshape(graph_ops.unfolded(tf.constant(array.ravel(), tf.float64), like=like), array.shape)
        for name, array in constants.items()
    }


def subject_of(label: str, step: Step, value: ValueSpec, keys: tf.Tensor | None, *, complete: bool = False) -> Subject:
    """What a step learns of a tensor; if it is to be `complete`, each statistic needs a present value."""
    shapes, integers, estimator = step.shapes(value), step.integers, step.estimator(value)
    if keys is not None:
        if not isinstance(step, MomentStep):
            raise ValueError(f"{label}: expected no `by`: it is for what moments tell, not for {step.key}")
        shapes = {"keys": (None,), **{constant: (None, *shape) for constant, shape in shapes.items()}}
        integers, estimator = integers | {"keys"}, GroupsAndAll(shape=value.shape, over=value.over)
    assert estimator is not None, "what learns nothing is no subject"
    return Subject(
        label=label,
        dtype=value.dtype,
        shape=value.shape,
        estimator=estimator,
        finish=functools.partial(fit, step, value, complete),
        outputs=tuple((constant, constant in integers, shape) for constant, shape in shapes.items()),
        grouped=keys is not None,
    )


def fit(step: Step, value: ValueSpec, complete: bool, result: Arrays) -> Arrays:
    """The constants of a step, from the result of its estimator; NaN where no value is present, unless `complete`.

    Raises:
        ValueError: If values are infinite, statistics overflow, or there is no value where one is needed.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        constants = step.fit(result, value)
    floats = [array for array in constants.values() if array.dtype.kind == "f"]
    if complete and any(np.isnan(array).any() for array in floats):
        where = np.argwhere(np.isnan(floats[0]))
        raise ValueError(f"expected a value in the training rows; found none at {where[:1].tolist()}")
    present = value.broadcast(result["count"]) > 0 if isinstance(step, MomentStep) else np.False_
    if any((np.isinf(array) | (np.isnan(array) & present)).any() for array in floats):
        raise ValueError("expected finite values whose statistics are within float64; found others")
    return dict(constants) | ({"keys": result["keys"]} if "keys" in result and "keys" not in constants else {})
