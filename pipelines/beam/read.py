"""`ReadNpy`: rows of arrays as columnar batches, by a splittable DoFn."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from loaders.buffers import Buffers
from pipelines.analyze.user_function import trace_configured
from pipelines.beam import element_types
from pipelines.beam.rows import Batch
from pipelines.config.feature import Feature
from pipelines.config.schema import DatasetConfig, parse_config
from pipelines.errors import ConfigError
from pipelines.interface.arguments import Config, read_config
from pipelines.plan.plan import COMPRESSED_BLOCK_BYTES, Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import Units
from pipelines.reading.batches import take
from pipelines.reading.columns import read_rows
from pipelines.sources.formats import is_container
from pipelines.sources.path_layout import fixed_directory
from pipelines.sources.table import SourceTable, scan
from pipelines.storage import file_systems, files
from pipelines.storage.files import Path

BATCH_BYTES = 8 * 2**20

RUN_BYTES = 64 * 2**20
"""Rows that a worker is given at first: enough to be worth it."""

STAGE = "read"

Form = Literal["arrays", "arrow", "rows"]
FORMS: tuple[Form, ...] = ("arrays", "arrow", "rows")


class ReadNpy(beam.PTransform):  # type: ignore[misc]
    """Reads the rows of `.npy` and `.npz` files, those of several features beside each other.

    Expects a pipeline. Outputs a PCollection of batches: by default each a `dict` from the name of a feature to a NumPy
    array `[rows, *shape]`, in the dtype of the files and this machine's byte order; times are int64, text and bytes are
    `S` (text in UTF-8), and rows that differ in length are a `pipelines.Ragged` of `values` and `lengths`. With
    `form="arrow"` an element is a `pyarrow.RecordBatch` of the schema `schema`, in which axes of a row are fixed-size
    lists; with `form="rows"` it is a `beam.Row` of one row, whose axes are lists.

    The files are found, and their headers read and checked, when this is made; values are read by the workers, by
    ranges. A runner may split what a worker has begun to read after any batch, and is told how much is left. Which
    rows make a batch depends on the files and `batch_bytes` alone.

    Attributes:
        table: The files' arrays and rows.
        schema: The features as Arrow has them.
    """

    def __init__(
        self,
        source: Path | Sequence[str],
        features: Sequence[str] | Mapping[str, Any] | None = None,
        *,
        config: Config = None,
        batch_bytes: int = BATCH_BYTES,
        form: Form = "arrays",
        key: str | None = None,
    ) -> None:
        """Finds the files and checks that they fit together.

        Args:
            source: A directory, here or in an object store; or one pattern or several of paths, in which `*` and `?`
                stay within a name and `**` crosses directories.
            features: The names of the features to read, all unless said; or by these names their files' patterns, or
                what a configuration says of a feature.
            config: A configuration as of `pipelines.build`: a YAML file, a mapping, or a `DatasetConfig`.
            batch_bytes: About how many bytes a batch has.
            form: What an element is.
            key: The name of a further column, int64 `[rows]`: the number of each row among all, by which
                `WriteDataset` knows the row again.

        Raises:
            SourceError: Listing everything that is wrong with the files.
            ConfigError: If the configuration is not valid, or a feature is not there or cannot be had in this form.
        """
        super().__init__()
        if batch_bytes < 1:
            raise ConfigError(f"batch_bytes: expected at least 1; found {batch_bytes}")
        if form not in FORMS:
            raise ConfigError(f"form: expected one of {', '.join(FORMS)}; found {form!r}")
        self._config = _with_features(read_config(config), features)
        file_systems.configure(self._config.storage_options)
        root, patterns = _root(source)
        self.table = scan(root, self._config, only=patterns)
        self._features = _choose(self.table, features, key)
        self._batch_bytes = batch_bytes
        self._form = form
        self.key = key

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The features as Arrow has them."""
        return element_types.arrow_schema(self._features)

    @functools.cached_property
    def plan(self) -> Plan:
        """What a build of these files with this configuration would do.

        Raises:
            ConfigError: If the configuration does not fit the files.
        """
        resolved = resolve_config(self._config, self.table, custom=trace_configured(self._config, self.table))
        return make_plan(self.table, resolved)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the reading."""
        row_bytes = max(1, sum(feature.row_bytes for feature in self._features))
        batch_rows = max(int(self._batch_bytes // row_bytes), 1)
        unit_rows = batch_rows
        if self.table.part_compressed.any():  # where a batch comes after all that is before it in its file
            unit_rows = max(int(COMPRESSED_BLOCK_BYTES // row_bytes), batch_rows)
        units = Units(parts=range(len(self.table.parts)), part_rows=self.table.part_rows, unit_rows=unit_rows)
        runs = units.runs(int(RUN_BYTES // (unit_rows * row_bytes)))
        read = _ReadUnits(
            self.table, self._features, units, unit_bytes=round(unit_rows * row_bytes), batch_rows=batch_rows
        )
        listed = pipeline | "ListRuns" >> beam.Create(runs)  # which shuffles them, so that all workers have some
        batches = listed | "Read" >> beam.ParDo(read).with_output_types(Batch)
        batches.element_type = Batch  # also where Beam infers no types: else it measures each batch by pickling it
        if self._form == "arrow":
            to_arrow = beam.Map(element_types.to_record_batch, self.schema)
            return batches | "ToArrow" >> to_arrow.with_output_types(pa.RecordBatch)
        if self._form == "rows":
            to_rows = beam.FlatMap(element_types.to_rows, self._features)
            return batches | "ToRows" >> to_rows.with_output_types(element_types.row_type(self._features))
        return batches


class _ReadUnits(beam.DoFn, RestrictionProvider):  # type: ignore[misc]
    """Reads units of rows, given by the numbers of the first and of the one after the last.

    A restriction is a range of units: what was not begun of it can be given to another worker.
    """

    def __init__(
        self, table: SourceTable, features: Sequence[Feature], units: Units, *, unit_bytes: int, batch_rows: int
    ) -> None:
        self._table = table
        self._features = features
        self._units = units
        self._unit_bytes = unit_bytes
        self._batch_rows = batch_rows
        self._buffers = Buffers()
        self._storage_options = file_systems.shared()

    def setup(self) -> None:
        """Lets this worker reach the files."""
        file_systems.configure(self._storage_options)

    def initial_restriction(self, run: tuple[int, int]) -> OffsetRange:
        """All units of the run."""
        return OffsetRange(*run)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        """What knows how much has been read, and can be split."""
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, run: tuple[int, int], restriction: OffsetRange) -> int:
        """The bytes of the rows."""
        return int(restriction.size()) * self._unit_bytes

    def process(
        self,
        run: tuple[int, int],
        tracker: Any = beam.DoFn.RestrictionParam(),  # noqa: B008  # Beam's way of asking for it
    ) -> Iterator[Any]:
        """Reads unit after unit, as long as they are this worker's."""
        unit = tracker.current_restriction().start
        while tracker.try_claim(unit):
            spans = self._units.spans(unit)
            columns = read_rows(self._table, self._features, spans, stage=STAGE, buffers=self._buffers)
            rows = len(next(iter(columns.values())))
            if rows <= self._batch_rows:
                yield columns
            else:
                for start in range(0, rows, self._batch_rows):
                    yield take(columns, slice(start, start + self._batch_rows))
            del columns  # so that the next batch is read into the same memory, unless somebody holds it
            unit += 1


def _root(source: Path | Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The directory of the files, and patterns of their paths from there; none where all are meant."""
    given = [os.fspath(source)] if isinstance(source, str | os.PathLike) else list(source)
    if not given:
        raise ConfigError("source: expected a directory or patterns; found none")
    if len(given) == 1 and not {*given[0]} & {*"*?"} and not is_container(given[0]):
        return given[0], ()
    patterns = [files.absolute(pattern) for pattern in given]
    above = [fixed_directory(pattern).split("/") for pattern in patterns]
    common = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*above, strict=False))
    root = "/".join(level[0] for level in common) or "/"
    return root, tuple(pattern.removeprefix(root).lstrip("/") for pattern in patterns)


def _with_features(config: DatasetConfig, features: Sequence[str] | Mapping[str, Any] | None) -> DatasetConfig:
    """A configuration with what is said of features, patterns of their files or more."""
    if not isinstance(features, Mapping):
        return config
    said = {
        name: {"files": value} if isinstance(value, str | list | tuple) else value for name, value in features.items()
    }
    return config.model_copy(update={"features": config.features | parse_config({"features": said}).features})


def _choose(
    table: SourceTable, names: Sequence[str] | Mapping[str, Any] | None, key: str | None
) -> tuple[Feature, ...]:
    """The features to read, sorted by name, and the key."""
    known = {feature.name: feature for feature in table.features}
    chosen = sorted(known if names is None else set(names))
    if missing := [name for name in chosen if name not in known]:
        raise ConfigError(f"features: expected some of {', '.join(sorted(known))}; found {missing[0]!r}")
    if not chosen:
        raise ConfigError("features: expected at least one; found none")
    if key is None:
        return tuple(known[name] for name in chosen)
    if key in known:
        raise ConfigError(f"key: expected a name that no feature has; found {key!r}")
    number = Feature(name=key, dtype=np.dtype(np.int64), shape=(), row_axes=1, origin="index")
    return (*(known[name] for name in chosen), number)
