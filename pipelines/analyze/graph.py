"""What tf.transform exports: the steps of every feature as one graph, with what they have learned as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.analyze.fit import KEYS, Known
from pipelines.config.resolved import ResolvedFeature
from pipelines.config.schema import RESERVED_SUFFIX
from pipelines.errors import DataError
from pipelines.lazy import tf
from pipelines.reading.missing import missing_in_graph
from pipelines.steps import graph_ops
from pipelines.steps.step import Constants, Shape, Step, Tensors

F64 = npt.NDArray[np.float64]

FLOAT64_SUFFIX = RESERVED_SUFFIX
"""tf.transform's schema knows no float64, so a float64 output leaves the graph as int64 of the same bits."""


def pack(features: Sequence[ResolvedFeature], fitted: Constants) -> F64:
    """What all steps have learned as one vector, which `unpack` takes apart: the constants' lengths, and then they.

    One vector of what `fitted_arrays` returned, so that the analyzer has one output whatever the number of features;
    integers are there by their bits.
    """
    arrays = [
        fitted[f"{_place(feature, index)}/{name}"]
        for feature in features
        for index, step in enumerate(feature.steps)
        for name in _names(feature, step)
    ]
    parts = [
        np.ravel(array).astype(np.int64 if array.dtype.kind in "iu" else np.float64, copy=False).view(np.float64)
        for array in arrays
    ]
    return np.concatenate([np.array([len(part) for part in parts], np.float64), *parts])


def _place(feature: ResolvedFeature, index: int) -> str:
    """What a step is called where its constants are kept."""
    first = 1 if feature.impute else 0
    return f"{feature.name}/{'impute' if index < first else index - first}"


def _names(feature: ResolvedFeature, step: Step) -> tuple[str, ...]:
    return (*step.constants, KEYS) if feature.by is not None and step.constants else step.constants


def _shapes(feature: ResolvedFeature, index: int) -> dict[str, Shape]:
    step = feature.steps[index]
    shapes = step.shapes(feature.values[index])
    if feature.by is None or not step.constants:
        return shapes
    return {name: (None, *shape) for name, shape in shapes.items()} | {KEYS: (None,)}


def unpack(packed: tf.Tensor, features: Sequence[ResolvedFeature]) -> Mapping[str, Sequence[Tensors]]:
    """The constants of each step of each feature, as tensors of the shapes that `pack` took apart."""
    shapes = [
        (feature, index, name, shape)
        for feature in features
        for index in range(len(feature.steps))
        for name, shape in _shapes(feature, index).items()
    ]
    ends = len(shapes) + tf.cumsum(tf.cast(packed[: len(shapes)], tf.int64))
    result: dict[str, list[dict[str, tf.Tensor]]] = {f.name: [{} for _ in f.steps] for f in features}
    for number, (feature, index, name, shape) in enumerate(shapes):
        begin = ends[number - 1] if number else len(shapes)
        part = tf.reshape(packed[begin : ends[number]], [-1 if size is None else size for size in shape])
        integers = name == KEYS or name in feature.steps[index].integers
        result[feature.name][index][name] = tf.bitcast(part, tf.int64) if integers else part
    return result


def output_name(feature: ResolvedFeature) -> str:
    """The name of the graph's output for a feature."""
    return feature.name + FLOAT64_SUFFIX if feature.spec.dtype == "float64" else feature.name


def preprocess(
    inputs: Mapping[str, tf.Tensor], packed: tf.Tensor, features: Sequence[ResolvedFeature]
) -> dict[str, tf.Tensor]:
    """The graph: every value in float64 until the last step.

    `inputs` has each of the configuration's `graph_features`, `[batch, *shape]` in their `graph_dtype`; of rows with
    lengths of their own, the values of all rows one after the other. `packed` is what `pack` returned of the features
    that the transform changes. Each output is `[batch, *shape]`, float32, int64, or int64 bits of float64.
    """
    constants = unpack(graph_ops.unfolded(packed, like=inputs[features[0].name]), features)
    outputs: dict[str, tf.Tensor] = {}
    for feature in features:
        outputs |= _transform(feature, inputs, constants[feature.name])
    return outputs


def _transform(
    feature: ResolvedFeature, inputs: Mapping[str, tf.Tensor], constants: Sequence[Tensors]
) -> dict[str, tf.Tensor]:
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
    steps = list(zip(feature.steps, constants, strict=True))
    same = feature.spec.dtype == feature.source_dtype and not feature.normalize
    fills = feature.impute is not None and feature.impute.fills
    if absent is not None and (feature.fills_integers or (same and fills)):
        # In the dtype of the sources, so that what is there stays as it is, bit for bit.
        x = tf.where(absent, tf.cast(constants[0]["fill"], x.dtype), x)
        steps = steps[1:]
    elif feature.declares_missing and (feature.steps or x.dtype.is_floating):
        x = _mark(x, absent)
    for step, known in steps:
        x = step.apply(step.cast(x), known)
    return x


def _mark(x: tf.Tensor, absent: tf.Tensor) -> tf.Tensor:
    """Floats with NaN for each that is missing."""
    x = x if x.dtype.is_floating else tf.cast(x, tf.float64)
    return tf.where(absent, tf.constant(math.nan, x.dtype), x)


def as_tensor(feature: ResolvedFeature, values: npt.NDArray[Any]) -> tf.Tensor:
    """Values of the sources as the graph takes them, on the CPU."""
    with tf.device("/cpu:0"):
        if feature.source_dtype == "string":
            return tf.constant(values, tf.string, values.shape)
        return tf.constant(values.astype(feature.graph_dtype, copy=False))


def prepare(inputs: Mapping[str, tf.Tensor], features: Iterable[ResolvedFeature]) -> dict[str, tf.Tensor]:
    """What a user's own function is called with: NaN for what is declared to be missing, in the declared dtypes.

    `inputs` are as of `preprocess`. Each result is `[batch, *shape]` in the feature's `taken_kind`, before any
    imputation or normalisation.
    """
    parts = {}
    for feature in features:
        x = inputs[feature.name]
        if feature.declares_missing:
            x = _mark(x, missing_in_graph(feature, inputs))
        parts[feature.name] = x if x.dtype.name == feature.taken_kind else tf.cast(x, feature.taken_kind)
    return parts


def _leave(feature: ResolvedFeature, x: tf.Tensor) -> tf.Tensor:
    """A value in a dtype that tf.transform's schema has."""
    if feature.spec.dtype == "float64":
        return tf.bitcast(tf.cast(x, tf.float64), tf.int64)
    if x.dtype == tf.string:
        return x
    return tf.cast(x, tf.float32 if feature.spec.dtype.startswith("float") else tf.int64)


def _of_group(feature: ResolvedFeature, step: Step, constants: Tensors, inputs: Mapping[str, tf.Tensor]) -> Tensors:
    """A step's constants for each row, where groups have constants of their own."""
    if feature.by is None or not step.constants:
        return constants
    own = {name: constants[name] for name in (KEYS, *step.constants)}
    return graph_ops.of_groups(own, graph_ops.group_keys(inputs[feature.by]))


def apply_steps(
    feature: ResolvedFeature, numbers: Iterable[int], constants: Sequence[Constants], values: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """What some steps of a feature make of values, by the operations that the exported graph has."""
    with tf.device("/cpu:0"):
        x = tf.constant(values)
        for number in numbers:
            step = feature.steps[number]
            x = step.apply(step.cast(x), {name: tf.constant(constants[number][name]) for name in step.constants})
        return np.asarray(x.numpy())


def has_domain(feature: ResolvedFeature) -> bool:
    """Whether a step has no number for some values."""
    return any(step.domain for step in feature.steps)


def check_domain(feature: ResolvedFeature, raw: npt.NDArray[Any], transformed: npt.NDArray[Any]) -> None:
    """Raises a DataError where a step has no number for a value.

    `raw` has NaN for what is missing, as `missing.marked` gives it; `transformed` is what the steps made of it,
    infinite where a step other than the first had no number.
    """
    if not has_domain(feature):
        return
    # Steps after the first may make something else of its infinity.
    for first in feature.normalize[:1]:
        if (lost := first.outside(raw)).any():
            raise DataError(f"feature {feature.name}: expected {first.domain} for {first.key}; found {raw[lost][0]}")
    if transformed.dtype.kind == "f" and np.isinf(transformed).any():
        step = next(step for step in feature.steps if step.domain)
        raise DataError(f"feature {feature.name}: expected {step.domain} for {step.key}; found others")


def fitted_arrays(features: Sequence[ResolvedFeature], known: Known) -> dict[str, npt.NDArray[Any]]:
    """What the steps have learned, as arrays by `<feature>/impute/<constant>` and `<feature>/<number>/<constant>`.

    The number is that of the step in `normalize`.
    """
    return {
        f"{_place(feature, index)}/{name}": array
        for feature in features
        for index, constants in enumerate(known[feature.name].constants)
        for name, array in constants.items()
    }
