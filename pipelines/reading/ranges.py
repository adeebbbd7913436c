"""Reads rows of sources by range, never a whole file, through the formats of their containers."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.sources.formats import format_of
from pipelines.sources.formats.boxes import Array
from pipelines.sources.formats.dtypes import as_integer, leaves, record_dtype
from pipelines.sources.formats.selection import Column, Selection
from pipelines.sources.parts import SourceArray
from pipelines.storage import files
from pipelines.storage.remote import ReadTask, read_pieces


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """Rows of one source, and where they go.

    Attributes:
        row_axes: How many leading axes of its array count rows; 0 where the array is one row.
        out: Where the rows go, [rows, *row shape]: C-contiguous, of the dtype of the values.
    """

    source: SourceArray
    row_axes: int
    start: int
    out: Array


def value_dtype(source: SourceArray) -> np.dtype[Any]:
    """The dtype in which the values of a source are read: this machine's byte order, times as int64."""
    return as_integer(np.dtype(source.dtype)).newbyteorder("=")


def read_files(root: str, wanted: Iterable[Wanted], *, checked: bool = False) -> None:
    """Reads rows of sources under a root; of containers that are not local, several pieces at a time.

    Each container is opened once. Fields of one table that are wanted of the same rows are read together: their
    records are read once. If it is `checked`, arrays are compared with the checksums that containers have of them. Who
    reads an array's first row does it, for the whole array: so it is done once where all rows are read, whoever reads
    them. Where the rows of several parts are in one array, and the first may be left out, each process does it.

    Raises:
        DataError: If a container has changed since the sources were checked, cannot be unpacked, or is damaged.
        OSError: If a file cannot be read.
    """
    containers: dict[str, dict[tuple[object, ...], list[Wanted]]] = {}
    for number, rows in enumerate(wanted):
        # Several features may be one plain array, but each goes to its own place.
        alone = None if rows.source.record else number
        key = (rows.source.member, rows.row_axes, rows.start, len(rows.out), alone)
        containers.setdefault(rows.source.path, {}).setdefault(key, []).append(rows)
    remote: list[Iterator[ReadTask]] = []
    for place, arrays in containers.items():
        path, selections = files.locate(root, place), [_selection(together) for together in arrays.values()]
        if any(selection.source.start for selection in selections):  # of many parts, in an order of their own
            selections.sort(key=lambda selection: selection.start)
        known = format_of(path)
        compared = [own for own in selections if checked and not own.empty and (own.start == 0 or own.source.start)]
        if files.is_local(path):
            known.check(path, compared)
            known.read(path, selections)
        else:
            remote.append(iter([functools.partial(known.check, path, compared)]))
            remote.append(known.pieces(path, selections))
    if remote:
        read_pieces(itertools.chain.from_iterable(remote))


def _selection(wanted: Sequence[Wanted]) -> Selection:
    """The same rows of several fields, or of one array, as the format reads them."""
    source, axes, start = wanted[0].source, wanted[0].row_axes, wanted[0].start
    dtype, shape = np.dtype(source.dtype), source.shape
    paths: dict[str, tuple[str, ...]] = {source.field: ()}
    if source.record:
        dtype = record_dtype(source.record)
        fields = {leaf.name: leaf for leaf in leaves(dtype)}
        paths = {name: leaf.path for name, leaf in fields.items()}
        shape = shape[: len(shape) - len(fields[source.field].shape)]
    return Selection(
        source=source,
        dtype=as_integer(dtype),
        shape=shape if axes else (1, *shape),
        row_axes=max(1, axes),
        start=start,
        stop=start + len(wanted[0].out),
        columns=tuple(
            Column(path=paths[column.source.field], dtype=as_integer(np.dtype(column.source.dtype)), out=column.out)
            for column in wanted
        ),
    )
