"""CSV and Parquet files, whose columns are arrays. They hold what is known of other files' rows, a line for each."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.lazy import Lazy
from pipelines.sources.formats.protocol import Format, FormatError, Header, Member, naming_container
from pipelines.sources.formats.selection import Selection
from pipelines.sources.formats.unchanged import check_local
from pipelines.storage import files

pa, csv, parquet, types = map(Lazy, ("pyarrow", "pyarrow.csv", "pyarrow.parquet", "pyarrow.types"))

TableColumns = Mapping[str, npt.NDArray[Any] | FormatError]
"""The columns by their names; of one that cannot be read, why."""


class Tabular(Format):
    """A table, which is read whole and remembered: it is small beside the files that it is about."""

    named = True

    def members(self, path: str, *, size: int) -> Sequence[Member]:
        if files.is_local(path):
            columns = read_table(path, size, os.stat(path).st_mtime)
        else:  # of which nobody knows here whether it has changed since it was remembered
            columns = read_table.__wrapped__(path, size, 0.0)
        return [
            Member(name=name, error=column)
            if isinstance(column, FormatError)
            else Member(name=name, header=Header(dtype=column.dtype, shape=column.shape))
            for name, column in columns.items()
        ]

    def read(self, path: str, selections: Sequence[Selection]) -> None:
        source = selections[0].source
        check_local(path, source)
        with naming_container(path):
            columns = read_table(path, source.size, source.modified)
        for selection in selections:
            column = columns[selection.source.member]
            assert isinstance(column, np.ndarray), "the headers of columns were checked"
            selection.copy_from(column.view(np.int64) if column.dtype.kind in "mM" else column)


@functools.lru_cache(maxsize=4)
def read_table(path: str, size: int, modified: float) -> TableColumns:
    """The columns of a table; `size` and `modified` tell it from what it was earlier.

    Raises:
        FormatError: If it is no such table.
        OSError: If it cannot be read.
    """
    data = files.read_bytes(path)
    if len(data) != size:
        raise FormatError(expected=f"{size} bytes, as when it was listed", found=f"{len(data)} bytes")
    reader = csv.read_csv if path.lower().endswith(".csv") else parquet.read_table
    try:
        table = reader(io.BytesIO(data))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        kind = "a CSV file with a line of names" if path.endswith(".csv") else "a Parquet file"
        raise FormatError(expected=kind, found=" ".join(str(error).split())) from None
    if len(set(table.column_names)) < len(table.column_names):
        raise FormatError(expected="columns, each of its own name", found=", ".join(table.column_names))
    named = zip(table.column_names, table.columns, strict=True)
    columns = {name: _array(column) for name, column in named if name}  # pandas writes the row's number without a name
    if not columns:
        raise FormatError(expected="columns with names", found="none")
    return columns


def _array(column: Any) -> npt.NDArray[Any] | FormatError:
    """A column as NumPy has it; missing integers are NaN among floats, as pandas has them."""
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    text = types.is_string(kind) or types.is_large_string(kind)
    if (text or types.is_boolean(kind)) and column.null_count:
        return FormatError(expected=f"a {kind} in every row", found=f"{column.null_count} rows without")
    if text:
        return np.array(column.to_pylist() or [""], np.str_)[: len(column)]
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_integer(kind) or types.is_floating(kind):
        return np.asarray(column.to_numpy())
    if types.is_boolean(kind):
        return np.asarray(column.to_numpy(), np.bool_)
    return FormatError(expected="a column of bool, numbers, text or times", found=f"one of {kind}")
