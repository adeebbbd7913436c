"""What tf.transform exports: the steps of every feature as one graph, with what they have learned as one vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.analyze.fit import KEYS, Knowledge
from pipelines.config.resolved import ResolvedFeature
from pipelines.config.schema import RESERVED_SUFFIX
from pipelines.reading.missing import missing_in_graph
from pipelines.steps import graph_ops
from pipelines.steps.imputation import Fill, fills_integers
from pipelines.steps.step import Constants, Shape, Step, Tensors, accepted

if TYPE_CHECKING:
    import tensorflow as tf

F64 = npt.NDArray[np.float64]

FLOAT64_SUFFIX = RESERVED_SUFFIX
"""tf.transform's schema knows no float64, so a float64 output leaves the graph as int64 of the same bits."""


def pack(features: Sequence[ResolvedFeature], known: Knowledge) -> F64:
    """What all steps have learned as one vector, which `unpack` takes apart: the constants' lengths, and then they.

    One vector, so that the analyzer has one output whatever the number of features; integers are there by their bits.
    """
    parts = [
        np.ravel(constants[name])
        .astype(np.int64 if constants[name].dtype.kind in "iu" else np.float64)
        .view(np.float64)
        for feature in features
        for step, constants in zip(feature.steps, known[feature.name].constants, strict=True)
        for name in _names(feature, step)
    ]
    return np.concatenate([np.array([len(part) for part in parts], np.float64), *parts])


def _names(feature: ResolvedFeature, step: Step) -> tuple[str, ...]:
    return (*step.learns, KEYS) if feature.by is not None and step.learns else step.learns


def _shapes(feature: ResolvedFeature, index: int) -> dict[str, Shape]:
    step = feature.steps[index]
    shapes = step.shapes(feature.values[index])
    if feature.by is None or not step.learns:
        return shapes
    return {name: (None, *shape) for name, shape in shapes.items()} | {KEYS: (None,)}


_INTEGERS = frozenset({KEYS, "ids"})


def unpack(packed: tf.Tensor, features: Sequence[ResolvedFeature]) -> dict[str, list[Tensors]]:
    """The constants of each step of each feature, as tensors of the shapes that `pack` took apart."""
    import tensorflow as tf

    shapes = [
        (feature.name, index, name, shape)
        for feature in features
        for index in range(len(feature.steps))
        for name, shape in _shapes(feature, index).items()
    ]
    ends = len(shapes) + tf.cumsum(tf.cast(packed[: len(shapes)], tf.int64))
    result: dict[str, list[Tensors]] = {feature.name: [{} for _ in feature.steps] for feature in features}
    for number, (feature_name, index, name, shape) in enumerate(shapes):
        begin = ends[number - 1] if number else len(shapes)
        part = tf.reshape(packed[begin : ends[number]], [-1 if size is None else size for size in shape])
        result[feature_name][index][name] = tf.bitcast(part, tf.int64) if name in _INTEGERS else part
    return result


def output_name(feature: ResolvedFeature) -> str:
    """The name of the graph's output for a feature."""
    return feature.name + FLOAT64_SUFFIX if feature.spec.dtype == "float64" else feature.name


def preprocess(
    inputs: Mapping[str, tf.Tensor], packed: tf.Tensor, features: Sequence[ResolvedFeature]
) -> dict[str, tf.Tensor]:
    """The graph: every value in float64 until the last step.

    Args:
        inputs: For each of the configuration's `graph_features`, `[batch, *shape]` in their `graph_dtype`; of rows with
            lengths of their own, the values of all rows one after the other.
        packed: float64, what `pack` returned.
        features: The features that the transform changes.

    Returns:
        Output name → `[batch, *shape]`, float32, int64, or int64 bits of float64.
    """
    constants = unpack(graph_ops.unfolded(packed, like=inputs[features[0].name]), features)
    outputs: dict[str, tf.Tensor] = {}
    for feature in features:
        outputs |= _transform(feature, inputs, constants[feature.name])
    return outputs


def _transform(
    feature: ResolvedFeature, inputs: Mapping[str, tf.Tensor], constants: Sequence[Tensors]
) -> dict[str, tf.Tensor]:
    import tensorflow as tf

    raw = inputs[feature.name]
    absent = missing_in_graph(feature, inputs)
    chosen = [_of_group(feature, step, known, inputs) for step, known in zip(feature.steps, constants, strict=True)]
    outputs: dict[str, tf.Tensor] = {}
    if feature.indicator:
        assert absent is not None, "the configuration allows no indicator of what cannot be missing"
        outputs[feature.outputs[1].name] = tf.cast(absent, tf.int64)
    outputs |= {output_name(feature): _leave(feature, _apply(feature, raw, absent, chosen))}
    return outputs


def _apply(feature: ResolvedFeature, x: tf.Tensor, absent: tf.Tensor | None, constants: Sequence[Tensors]) -> tf.Tensor:
    """The steps of a feature, one after the other."""
    import tensorflow as tf

    steps = list(zip(feature.steps, constants, strict=True))
    same = feature.spec.dtype == feature.source_dtype and not feature.normalize
    if absent is not None and (
        fills_integers(feature.impute, feature.source_dtype) or (same and isinstance(feature.impute, Fill))
    ):
        # In the dtype of the sources, so that what is there stays as it is, bit for bit.
        x = tf.where(absent, tf.cast(constants[0]["fill"], x.dtype), x)
        steps = steps[1:]
    elif feature.declares_missing and (feature.steps or x.dtype.is_floating):
        x = x if x.dtype.is_floating else tf.cast(x, tf.float64)
        x = tf.where(absent, tf.constant(math.nan, x.dtype), x)
    for step, known in steps:
        x = step.apply(accepted(step, x), known)
    return x


def _leave(feature: ResolvedFeature, x: tf.Tensor) -> tf.Tensor:
    """A value in a dtype that tf.transform's schema has."""
    import tensorflow as tf

    if feature.spec.dtype == "float64":
        return tf.bitcast(tf.cast(x, tf.float64), tf.int64)
    if x.dtype == tf.string:
        return x
    return tf.cast(x, tf.float32 if feature.spec.dtype.startswith("float") else tf.int64)


def _of_group(feature: ResolvedFeature, step: Step, constants: Tensors, inputs: Mapping[str, tf.Tensor]) -> Tensors:
    """A step's constants for each row, where groups have constants of their own."""
    import tensorflow as tf

    if feature.by is None or not step.learns:
        return constants
    groups = inputs[feature.by]
    keys = graph_ops.hash_strings(groups) if groups.dtype == tf.string else tf.cast(groups, tf.int64)
    places, known = graph_ops.find(keys, constants[KEYS])
    last = tf.size(constants[KEYS], tf.int64)
    places = tf.where(known, places, last)
    return {name: tf.gather(constants[name], places) for name in step.learns}


def keep_constants(features: Sequence[ResolvedFeature], known: Knowledge) -> dict[str, npt.NDArray[Any]]:
    """What the steps have learned, as arrays by `<feature>/impute/<constant>` and `<feature>/<number>/<constant>`.

    The number is that of the step in `normalize`.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for feature in features:
        offset = 1 if feature.impute else 0
        learned: Sequence[Constants] = known[feature.name].constants
        for index, constants in enumerate(learned):
            place = "impute" if index < offset else str(index - offset)
            arrays |= {f"{feature.name}/{place}/{name}": array for name, array in constants.items()}
    return arrays
