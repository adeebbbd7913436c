"""Columns as Arrow has them: axes of a row are fixed-size lists, one that varies is a large list. Needs `pyarrow`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loaders.format.spec import FeatureSpec

TIMES = {"datetime64": pa.timestamp, "timedelta64": pa.duration}
UNITS = ("s", "ms", "us", "ns")


def list_type(value: pa.DataType, shape: Sequence[int], *, ragged: bool = False) -> pa.DataType:
    """The type of a row of a shape; of one of any length of rows of this shape."""
    for size in reversed(shape):
        value = pa.list_(value, size)
    return pa.large_list(value) if ragged else value


def leaf_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values in lists of lists."""
    while isinstance(kind, pa.FixedSizeListType | pa.LargeListType):
        kind = kind.value_type
    return kind


def to_lists(values: pa.Array, kind: pa.DataType, lengths: npt.NDArray[np.int64] | None = None) -> pa.Array:
    """Values, one after the other in C order, as rows of a type that `list_type` gave; nothing is copied.

    Rows that vary come with the lengths of their first axis, `[rows]`.
    """
    kinds = [kind] if lengths is None else [kind.value_type]
    while pa.types.is_fixed_size_list(kinds[-1]):
        kinds.append(kinds[-1].value_type)
    for outer in reversed(kinds[:-1]):
        values = pa.FixedSizeListArray.from_arrays(values, type=outer)
    if lengths is None:
        return values
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(offsets, values, type=kind)


def schema(features: Sequence[FeatureSpec]) -> pa.Schema:
    """The schema of a data set's rows.

    Times that Arrow knows are timestamps and durations, others integers whose unit is in the metadata; complex numbers
    are lists of a real and an imaginary part; text and bytes are `binary`, as the shards do not tell them apart. The
    names of classes are in the metadata, as JSON.
    """
    return pa.schema([_field(feature) for feature in features])


def _field(feature: FeatureSpec) -> pa.Field:
    metadata: dict[str, str] = {"role": feature.role}
    if feature.unit:
        metadata["unit"] = feature.unit
    if feature.class_names:
        metadata["class_names"] = json.dumps(feature.class_names)
    return pa.field(feature.name, _row_type(feature), nullable=False, metadata=metadata)


def _row_type(feature: FeatureSpec) -> pa.DataType:
    return list_type(_value_type(feature), feature.inner_shape, ragged=feature.ragged)


def _value_type(feature: FeatureSpec) -> pa.DataType:
    kind, _, unit = feature.unit.rstrip("]").partition("[")
    if kind in TIMES and unit in UNITS:
        return TIMES[kind](unit)
    if feature.dtype == "string":
        return pa.binary()
    if feature.numpy_dtype.kind == "c":
        return pa.list_(pa.from_numpy_dtype(_parts(feature.numpy_dtype)), 2)
    return pa.from_numpy_dtype(feature.numpy_dtype)


def _parts(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the real and the imaginary part of a complex one."""
    return np.dtype(f"f{dtype.itemsize // 2}")


def stream(features: Sequence[FeatureSpec], batches: Iterable[Mapping[str, npt.NDArray[Any]]]) -> pa.RecordBatchReader:
    """Batches of columns, as `to_array` takes them, as record batches, each made when it is asked for."""
    found = schema(features)
    arrays = ([to_array(batch[feature.name], feature) for feature in features] for batch in batches)
    return pa.RecordBatchReader.from_batches(
        found, (pa.RecordBatch.from_arrays(columns, schema=found) for columns in arrays)
    )


def to_array(column: npt.NDArray[Any], feature: FeatureSpec) -> pa.Array:
    """A column, `[rows, *shape]`, or of ragged rows the bytes of each, `[rows]`, as its field in `schema` has it."""
    kind, lengths = _row_type(feature), None
    if feature.ragged:
        lengths = np.array([len(row) for row in column], np.int64) // feature.step_bytes
        column = np.frombuffer(b"".join(column), feature.numpy_dtype)
    flat = np.ascontiguousarray(column).reshape(-1)
    if flat.dtype.kind == "c":
        flat = flat.view(_parts(flat.dtype))
    value = leaf_type(kind)
    if pa.types.is_timestamp(value) or pa.types.is_duration(value):
        values = pa.array(flat, pa.int64()).view(value)
    else:
        values = pa.array(flat, value)
    return to_lists(values, kind, lengths)
