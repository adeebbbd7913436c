"""The rows that a pipeline hands over, in any form that is taken, as batches of checked columns; how these travel."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from loaders.format.spec import FeatureSpec
from pipelines.config.feature import Feature
from pipelines.errors import ConfigError, DataError
from pipelines.reading.batches import Columns, Ragged, values_of
from pipelines.reading.columns import encode_text

TOGETHER_BYTES = 4 * 2**20
"""Single rows that become a batch."""


class Batch(dict[str, Any]):
    """The type by which Beam knows a PCollection of batches; the elements themselves are plain dicts."""


class BatchCoder(beam.coders.Coder):  # type: ignore[misc]
    """Pickles batches, and says how large they are without.

    Beam measures elements for its metrics, by encoding them unless a coder knows better: with batches of megabytes
    that took four times as long as reading them.
    """

    def encode(self, batch: dict[str, Any]) -> bytes:
        """Pickles a batch."""
        return pickle.dumps(batch, protocol=5)

    def decode(self, encoded: bytes) -> dict[str, Any]:
        """The batch again."""
        found: dict[str, Any] = pickle.loads(encoded)
        return found

    def estimate_size(self, batch: dict[str, Any]) -> int:
        """The bytes of the arrays."""
        return sum(int(values_of(column).nbytes) for column in batch.values())

    def is_deterministic(self) -> bool:
        """Equal batches may be encoded in several ways."""
        return False

    def to_type_hint(self) -> type[Batch]:
        """The type that it is for."""
        return Batch


beam.coders.registry.register_coder(Batch, BatchCoder)


def features_of(said: Mapping[str, Any]) -> tuple[FeatureSpec, ...]:
    """Features as a user declares them, sorted by name.

    Each is a `loaders.FeatureSpec`, or a mapping of its fields: `dtype`, and if they are not as usual `shape`, `role`,
    `class_names` and `unit`. A ConfigError where a field is not known, or its value not allowed.
    """
    if not said:
        raise ConfigError("features: expected at least one; found none")
    found = []
    for name, fields in sorted(said.items()):
        if isinstance(fields, FeatureSpec):
            found.append(fields)
            continue
        try:
            own = {"shape": (), **fields}
            tuples = {key: tuple(own[key]) for key in ("shape", "class_names") if key in own}
            found.append(FeatureSpec(**{"name": name, **own, **tuples}))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"features.{name}: {error}") from error
    return tuple(found)


def source_feature(spec: FeatureSpec) -> Feature:
    """A feature of a pipeline's rows as a build has those of files."""
    dtype = np.dtype("S1") if spec.dtype == "string" else np.dtype(spec.dtype)
    return Feature(name=spec.name, dtype=dtype, shape=spec.shape, row_axes=1, unit=spec.unit)


class ToBatches(beam.DoFn):  # type: ignore[misc]
    """Makes checked batches of batches, of pairs of a key and a row, and of `beam.Row`.

    Outputs columns of the features and of the key: in the dtypes and shapes of the features, strings as `S`. Rows that
    come one by one are put together as long as they are in one bundle.
    """

    def __init__(self, features: Sequence[Feature], key: str) -> None:
        self._features = features
        self._key = key
        self._rows: list[tuple[Any, Mapping[str, Any]]] = []

    def start_bundle(self) -> None:
        """No row is left of another bundle."""
        self._rows = []

    def process(self, element: Any) -> Iterator[Columns]:
        """Checks a batch, or keeps a row until there are enough for one.

        Raises:
            DataError: If a feature is missing, or is something else than was declared.
        """
        if isinstance(element, dict):
            yield checked(element, self._features, self._key)
            return
        self._rows.append(_pair(element, self._key))
        row_bytes = max(1.0, sum(feature.row_bytes for feature in self._features))
        if len(self._rows) * row_bytes >= TOGETHER_BYTES:
            yield self._batch()

    def finish_bundle(self) -> Iterator[Any]:
        """The rows that are left."""
        if self._rows:
            yield WindowedValue(self._batch(), GlobalWindow().max_timestamp(), [GlobalWindow()])

    def _batch(self) -> Columns:
        rows, self._rows = self._rows, []
        return checked(stack(rows, self._features, self._key), self._features, self._key)


def _pair(element: Any, key: str) -> tuple[Any, Mapping[str, Any]]:
    """A row's key, and its values by the names of features."""
    if isinstance(element, tuple) and len(element) == 2 and isinstance(element[1], Mapping):
        return element
    if hasattr(element, "_asdict"):
        values = element._asdict()
    elif isinstance(element, beam.Row):
        values = element.as_dict()
    else:
        expected = "a batch (a dict of arrays), a pair of a key and a dict of values, or a beam.Row"
        raise DataError(f"rows: expected {expected}; found {type(element).__name__}")
    if key not in values:
        raise DataError(f"rows: expected a key {key!r} in each; found {', '.join(values)}")
    return values[key], values


def stack(rows: Sequence[tuple[Any, Mapping[str, Any]]], features: Sequence[Feature], key: str) -> Columns:
    """Columns of rows that come one by one, not yet checked."""
    columns: Columns = {key: _keys([found for found, _ in rows])}
    for feature in features:
        try:
            values = [values[feature.name] for _, values in rows]
        except KeyError:
            continue  # what is missing is said where columns are checked
        columns[feature.name] = _column(values, feature)
    return columns


def _keys(keys: Sequence[Any]) -> npt.NDArray[Any]:
    kinds = {type(value) for value in keys}
    found = np.array(keys)
    if found.dtype.kind not in "biuSU" or (len(kinds) > 1 and found.dtype.kind in "SU"):
        raise DataError(f"rows: expected keys that are all integers, text or bytes; found {keys[0]!r}")
    return found


def _column(values: Sequence[Any], feature: Feature) -> npt.NDArray[Any] | Ragged:
    strings = feature.dtype.kind in "SU"
    try:
        if feature.ragged:
            steps = [np.asarray(value, feature.dtype).reshape(-1, *feature.inner_shape) for value in values]
            lengths = np.array([len(value) for value in steps], np.int64)
            return Ragged(values=np.concatenate(steps), lengths=lengths)
        return np.array(values) if strings else np.array(values, feature.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        shape = feature.shape
        raise DataError(
            f"feature {feature.name}: expected {feature.kind_name} rows of shape {shape}; found {error}"
        ) from error


def checked(columns: Mapping[str, Any], features: Sequence[Feature], key: str) -> Columns:
    """The columns of the features and the key; other columns are left out.

    A DataError where one is missing, or its dtype, its shape or the number of its rows is not as expected.
    """
    if key not in columns:
        raise DataError(f"rows: expected a column {key!r} of keys; found {', '.join(columns)}")
    keys = _plain(columns[key])
    if keys.ndim < 1 or keys.dtype.kind not in "biuSU":
        raise DataError(f"rows: expected keys of integers, text or bytes; found {keys.dtype} of shape {keys.shape}")
    found: Columns = {feature.name: _check(feature, columns) for feature in features}
    for name, column in found.items():
        if len(column) != len(keys):
            raise DataError(f"feature {name}: expected {len(keys)} rows, as there are keys; found {len(column)}")
    return {**found, key: keys}


def _check(feature: Feature, columns: Mapping[str, Any]) -> npt.NDArray[Any] | Ragged:
    if feature.name not in columns:
        raise DataError(f"feature {feature.name}: expected a column of this name; found {', '.join(columns)}")
    column = columns[feature.name]
    values = _plain(values_of(column))
    strings = feature.dtype.kind in "SU"
    same = values.dtype.kind == "S" if strings else values.dtype == feature.dtype
    if not same or values.shape[1:] != feature.inner_shape or isinstance(column, Ragged) != feature.ragged:
        is_ragged = "ragged " * isinstance(column, Ragged)
        raise DataError(
            f"feature {feature.name}: expected {feature.kind_name} rows of shape {feature.shape}; "
            f"found {is_ragged}{values.dtype} rows of shape {values.shape[1:]}"
        )
    return Ragged(values=values, lengths=column.lengths) if isinstance(column, Ragged) else values


def _plain(values: Any) -> npt.NDArray[Any]:
    """An array; of strings in any form, as bytes."""
    found = np.asarray(values)
    if found.dtype == object:
        found = np.array([value.encode() if isinstance(value, str) else value for value in found.reshape(-1)]).reshape(
            found.shape
        )
    return encode_text(found) if found.dtype.kind == "U" else found


def joined(pieces: Sequence[Columns]) -> Columns:
    """The rows of several batches, one after the other."""
    return {name: _join([piece[name] for piece in pieces]) for name in pieces[0]}


def _join(columns: Sequence[npt.NDArray[Any] | Ragged]) -> npt.NDArray[Any] | Ragged:
    if not any(isinstance(column, Ragged) for column in columns):
        return np.concatenate([values_of(column) for column in columns])
    lengths = [column.lengths for column in columns if isinstance(column, Ragged)]
    return Ragged(values=np.concatenate(list(map(values_of, columns))), lengths=np.concatenate(lengths))
