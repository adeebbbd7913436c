"""Columnar batches in the forms that Beam's users know: Arrow record batches, and rows with a schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.typehints.row_type import RowTypeConstraint

from pipelines.config.feature import Feature
from pipelines.errors import ConfigError
from pipelines.reading.batches import Columns, Ragged, values_of

_SCALARS = {"b": bool, "i": int, "u": int, "f": float, "S": bytes, "U": str}
"""The types of the values of a row, by the kind of a feature's dtype."""


def arrow_schema(features: Sequence[Feature]) -> pa.Schema:
    """The schema of record batches: axes of a row are fixed-size lists, and the one that varies is a large list.

    Times are integers, whose field has their unit in its metadata.

    Raises:
        ConfigError: If Arrow has no such values.
    """
    return pa.schema([_field(feature) for feature in features])


def _field(feature: Feature) -> pa.Field:
    if feature.dtype.kind == "c":
        raise ConfigError(f"features.{feature.name}: Arrow has no complex numbers; found {feature.dtype}")
    strings = {"S": pa.binary(), "U": pa.string()}
    kind = strings.get(feature.dtype.kind) or pa.from_numpy_dtype(feature.dtype)
    for size in reversed(feature.inner_shape):
        kind = pa.list_(kind, size)
    kind = pa.large_list(kind) if feature.ragged else kind
    return pa.field(feature.name, kind, nullable=False, metadata={"unit": feature.unit} if feature.unit else None)


def to_record_batch(columns: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of columns as Arrow has it; numbers are not copied."""
    return pa.RecordBatch.from_arrays([_array(columns[field.name], field) for field in schema], schema=schema)


def _array(column: npt.NDArray[Any] | Ragged, field: pa.Field) -> pa.Array:
    kind, values = field.type, values_of(column)
    kinds = [kind.value_type] if isinstance(column, Ragged) else [kind]
    while pa.types.is_fixed_size_list(kinds[-1]):
        kinds.append(kinds[-1].value_type)
    flat = np.ascontiguousarray(values).reshape(-1)
    # From NumPy's bytes there is no way to Arrow's text but through its bytes.
    found = pa.array(flat, pa.binary()).cast(pa.string()) if kinds[-1] == pa.string() else pa.array(flat, kinds[-1])
    for outer in reversed(kinds[:-1]):
        found = pa.FixedSizeListArray.from_arrays(found, type=outer)
    if isinstance(column, Ragged):
        offsets = np.concatenate([[0], np.cumsum(column.lengths)]).astype(np.int64)
        found = pa.LargeListArray.from_arrays(offsets, found, type=kind)
    return found


def row_type(features: Sequence[Feature]) -> RowTypeConstraint:
    """The type of Beam's rows, one field a feature: a value, or a list for each axis of a row.

    Raises:
        ConfigError: If Beam's schemas have no such values.
    """
    return RowTypeConstraint.from_fields([(feature.name, _row_field(feature)) for feature in features])


def _row_field(feature: Feature) -> Any:
    if feature.dtype.kind not in _SCALARS:
        raise ConfigError(f"features.{feature.name}: Beam's rows have no complex numbers; found {feature.dtype}")
    found: Any = _SCALARS[feature.dtype.kind]
    for _ in feature.shape:
        found = Sequence[found]
    return found


def to_rows(columns: Columns, features: Sequence[Feature]) -> Iterator[beam.Row]:
    """The rows of a batch, one at a time."""
    lists = [_values(columns[feature.name], feature) for feature in features]
    for values in zip(*lists, strict=True):
        yield beam.Row(**dict(zip((feature.name for feature in features), values, strict=True)))


def _values(column: npt.NDArray[Any] | Ragged, feature: Feature) -> list[Any]:
    values = values_of(column)
    if feature.dtype.kind == "U":
        values = np.strings.decode(values, "utf-8")
    found: list[Any] = values.tolist()
    if not isinstance(column, Ragged):
        return found
    ends = np.cumsum(column.lengths).tolist()
    return [found[end - length : end] for end, length in zip(ends, column.lengths.tolist(), strict=True)]
