"""Pass 2, first half: the exported transform applied to columns, giving them as the shards hold them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.spec import FeatureSpec
from pipelines.analyze import graph
from pipelines.analyze.user_function import function_failed
from pipelines.config.resolved import ResolvedConfig, ResolvedFeature
from pipelines.errors import DataError
from pipelines.lazy import tf
from pipelines.reading import missing
from pipelines.reading.batches import Columns, Ragged, values_of, with_values
from pipelines.storage import directories, files
from pipelines.storage.temporary import temporary_directory


def load_transform(directory: str) -> Any:
    """Loads an exported transform, a SavedModel in any file system, once in each process.

    TensorFlow is given a local copy of what lies elsewhere, which is removed once it is loaded.
    """
    # Another build in this process may have written another transform to the same place.
    return _load(directory, files.read_bytes(files.join(directory, "transform_fn", "fingerprint.pb")))


@functools.lru_cache(maxsize=2)
def _load(directory: str, fingerprint: bytes) -> Any:
    model = files.join(directory, "transform_fn")
    if files.is_local(directory):
        return tf.saved_model.load(model)
    with temporary_directory("transform") as copied:
        directories.copy_tree(model, copied)
        return tf.saved_model.load(copied)


def apply_transform(transform: Any, config: ResolvedConfig, columns: Columns) -> Columns:
    """Maps raw columns to columns of the stored dtypes, little-endian, `[rows, *shape]` of each feature in the shards.

    What `load_transform` gave is not used where nothing is stored transformed or could fail later.

    Raises:
        DataError: If a finite float does not fit the stored dtype, or a value is outside what a step takes.
    """
    changed = tuple(f for f in config.transformed if f.store == "transformed" or may_fail(f))
    outputs = run_graph(transform, config, columns) if changed or config.given else {}
    stored: Columns = {}
    for spec in config.given:
        values = values_of(outputs[spec.name])
        stored[spec.name] = _narrow(spec, values, values)
    for feature in config.declared:
        if feature in changed:
            made = {spec.name: _check_and_cast(feature, spec, columns, outputs[spec.name]) for spec in feature.outputs}
        if feature in changed and feature.store == "transformed":
            stored |= made
        else:
            stored |= {spec.name: _cast(spec, columns[feature.name]) for spec in feature.stored}
    return stored


def may_fail(feature: ResolvedFeature) -> bool:
    """Whether a value could be outside what a step takes, or what it becomes outside the dtype.

    Then the graph is run where the shards hold the raw values too: the loader would find infinities, or the wrong
    integers, and could not say so. Small integers are always near what a step has learned.
    """
    small = feature.source_dtype in ("bool", "int8", "uint8", "int16", "uint16", "string")
    unlimited = not all(step.bounded for step in feature.steps)
    narrow = feature.spec.dtype not in ("float32", "float64", "int64", feature.source_dtype)
    return graph.has_domain(feature) or not small or unlimited or narrow


def run_graph(transform: Any, config: ResolvedConfig, columns: Columns) -> Columns:
    """Runs the exported graph on raw columns of `config.graph_features`.

    Its outputs are what a user's own function gives, and those of the steps by the names of the transformed features,
    float64 with its bits put right.
    """
    found = _call(transform, config, columns)
    outputs: Columns = {spec.name: found[spec.name] for spec in config.given}
    for name, values in outputs.items():
        rows = len(columns[config.features[0].name])
        if len(values) != rows:
            assert config.custom is not None, "the function gives what is given"
            raise DataError(
                f"{name}: expected {config.custom.place} to give a value for each of {rows} rows; found {len(values)}"
            )
    for feature in config.transformed:
        for spec in feature.outputs:
            bits = spec.name == feature.name and spec.dtype == "float64"
            values = found[graph.output_name(feature) if bits else spec.name]
            values = values.view(np.float64) if bits else values
            outputs[spec.name] = with_values(columns[feature.name], values)
    return outputs


def _call(transform: Any, config: ResolvedConfig, columns: Columns) -> dict[str, npt.NDArray[Any]]:
    try:
        outputs = transform.transform_fn(graph_inputs(config, columns))
    except tf.errors.OpError as error:
        if config.custom is None:
            raise
        raise function_failed(config.custom.place, str(error)) from error
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def graph_inputs(config: ResolvedConfig, columns: Columns) -> dict[str, Any]:
    """Raw columns as the tensors that the graph takes."""
    return {
        feature.name: graph.as_tensor(feature, values_of(columns[feature.name])) for feature in config.graph_features
    }


def _check_and_cast(
    feature: ResolvedFeature, spec: FeatureSpec, columns: Columns, found: npt.NDArray[Any] | Ragged
) -> npt.NDArray[Any] | Ragged:
    """Casts what the graph gives to the dtype of a batch.

    The values that a transform takes are finite, so what it gives is too, unless it overflowed.
    """
    values = values_of(found)
    if graph.has_domain(feature):
        graph.check_domain(feature, missing.marked(feature, columns), values)
    return with_values(found, _narrow(spec, values, None))


def _cast(spec: FeatureSpec, column: npt.NDArray[Any] | Ragged) -> npt.NDArray[Any] | Ragged:
    """Casts values that do not pass through the graph to the stored dtype; they keep the infinities that they have."""
    values = values_of(column)
    if spec.dtype == "string":
        return column
    if values.dtype.kind == "f" and spec.numpy_dtype.itemsize < values.dtype.itemsize:
        return with_values(column, _narrow(spec, values, values))
    return with_values(column, values.astype(spec.numpy_dtype, copy=False))


def _narrow(spec: FeatureSpec, column: npt.NDArray[Any], before: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Casts to the dtype of a spec, and raises a DataError where a value does not fit it.

    Infinite values stay so where they were infinite `before`, which is None where none should be.
    """
    dtype = spec.numpy_dtype
    if spec.dtype == "string":
        return column.astype(np.bytes_) if column.dtype == object else column
    with np.errstate(over="ignore"):
        stored = column.astype(dtype, copy=False)
    if dtype.kind == "f":
        wrong = np.isinf(stored) if before is None else np.isinf(stored) & np.isfinite(before)
    else:
        wrong = stored.astype(column.dtype) != column
    if wrong.any():
        raise DataError(f"feature {spec.name}: expected values that fit {spec.dtype}; found {column[wrong][0]:g}")
    return stored
