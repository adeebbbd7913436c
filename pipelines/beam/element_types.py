"""Columnar batches in the forms that Beam's users know: Arrow record batches, and rows with a schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.typehints.row_type import RowTypeConstraint

from loaders.format import arrow
from pipelines.config.feature import Feature
from pipelines.errors import ConfigError
from pipelines.reading.batches import Columns, Ragged, values_of

_SCALARS = {"b": bool, "i": int, "u": int, "f": float, "S": bytes, "U": str}
"""The types of the values of a row, by the kind of a feature's dtype."""


def arrow_schema(features: Sequence[Feature]) -> pa.Schema:
    """The schema of record batches: axes of a row are fixed-size lists, and the one that varies is a large list.

    Times are integers, whose field has their unit in its metadata. A ConfigError where Arrow has no such values.
    """
    return pa.schema([_field(feature) for feature in features])


def _field(feature: Feature) -> pa.Field:
    if feature.dtype.kind == "c":
        raise ConfigError(f"features.{feature.name}: Arrow has no complex numbers; found {feature.dtype}")
    strings = {"S": pa.binary(), "U": pa.string()}
    kind = strings.get(feature.dtype.kind) or pa.from_numpy_dtype(feature.dtype)
    kind = arrow.list_type(kind, feature.inner_shape, ragged=feature.ragged)
    return pa.field(feature.name, kind, nullable=False, metadata={"unit": feature.unit} if feature.unit else None)


def to_record_batch(columns: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of columns as Arrow has it; numbers are not copied."""
    return pa.RecordBatch.from_arrays([_array(columns[field.name], field) for field in schema], schema=schema)


def _array(column: npt.NDArray[Any] | Ragged, field: pa.Field) -> pa.Array:
    flat = np.ascontiguousarray(values_of(column)).reshape(-1)
    value = arrow.leaf_type(field.type)
    # From NumPy's bytes there is no way to Arrow's text but through its bytes.
    found = pa.array(flat, pa.binary()).cast(pa.string()) if value == pa.string() else pa.array(flat, value)
    return arrow.to_lists(found, field.type, column.lengths if isinstance(column, Ragged) else None)


def row_type(features: Sequence[Feature]) -> RowTypeConstraint:
    """The type of Beam's rows, one field a feature: a value, or a list for each axis of a row.

    A ConfigError where Beam's schemas have no such values.
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
