"""Reads columnar batches: the rows of some spans as one array for each feature."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.buffers import Buffers
from pipelines import counters
from pipelines.config.feature import Feature
from pipelines.config.resolved import ResolvedFeature
from pipelines.errors import DataError, Problem
from pipelines.plan.plan import Plan
from pipelines.plan.units import Span
from pipelines.reading.batches import Columns, Ragged, masked_values, values_of
from pipelines.reading.ranges import Wanted, read_files, value_dtype
from pipelines.reading.windows import Surroundings
from pipelines.sources.table import SourceTable
from pipelines.storage import files

Array = npt.NDArray[Any]
_Empty = Callable[[tuple[int, ...], np.dtype[Any]], Array]
"""What gives memory, as `np.empty` does."""

MAX_CODE_POINT = 0x10FFFF

CHECK_ELEMENTS = 2**16
"""Elements looked at together for infinities: the masks stay in the cache (8 GB/s of float32)."""


def read_columns(
    plan: Plan, spans: Sequence[Span], *, stage: str, features: Iterable[str] | None = None, strict: bool = True
) -> Columns:
    """Reads the rows of some spans, one after the other. Each file is opened once.

    Args:
        plan: The plan, which knows the sources.
        spans: The runs of rows.
        stage: The stage that the rows are counted for, in the progress shown.
        features: The names of the features to read; None for all.
        strict: Whether values are checked: infinities are errors where the transform would meet them, and arrays are
            compared with their containers' checksums, as `read_files` says.

    Returns:
        For each feature `[rows of all spans, *shape]`: numbers in the dtype of the sources and this machine's byte
        order, times as int64, text and bytes as `S` (text in UTF-8) of the widest row read; `Ragged` where rows have
        lengths of their own.

    Raises:
        DataError: If a file changed since preflight, cannot be unpacked or is damaged, text cannot be encoded, a
            feature that the transform uses holds an infinity that neither stands for a missing value nor is masked, or
            one of which no value may be missing holds NaN.
    """
    names = None if features is None else set(features)
    chosen = [feature for feature in plan.config.features if names is None or feature.name in names]
    known = {feature.name: feature for feature in plan.table.features}
    rows = sum(span.rows for span in spans)
    columns = _read(plan.table, [known[feature.name] for feature in chosen], spans, checked=strict)
    for feature in chosen:
        if strict and feature.transformed and (feature.mask is None or feature.mask in columns):
            _check_finite(plan.table, feature, columns, spans)
        if feature.forbids_missing:
            _check_present(plan.table, feature, columns[feature.name], spans)
    row_bytes = plan.table.row_bytes if names is None else sum(known[feature.name].row_bytes for feature in chosen)
    counters.count_read(stage, rows=rows, size=round(rows * row_bytes))
    return columns


def read_rows(
    table: SourceTable, features: Sequence[Feature], spans: Sequence[Span], *, stage: str, buffers: Buffers
) -> Columns:
    """Reads the rows of some spans as they are; result and errors are those of `read_columns`, but for infinities.

    Numbers lie in memory of `buffers`, which is used again once nobody holds them.
    """
    columns = _read(table, features, spans, checked=True, empty=buffers.empty)
    rows = sum(span.rows for span in spans)
    counters.count_read(stage, rows=rows, size=round(rows * sum(feature.row_bytes for feature in features)))
    return columns


def _read(
    table: SourceTable, features: Sequence[Feature], spans: Sequence[Span], *, checked: bool, empty: _Empty = np.empty
) -> Columns:
    from_files = [feature for feature in features if feature.origin == "files"]
    targets = {feature.name: _allocate(table, feature, spans, empty) for feature in from_files}
    wanted: list[Wanted] = []
    around: list[tuple[Surroundings, Array, Array]] = []
    for number, span in enumerate(spans):
        for feature in from_files:
            source, out = table.parts[span.part].sources[feature.name], targets[feature.name].pieces[number]
            start = source.start + span.start
            if feature.window is None:
                wanted.append(Wanted(source=source, row_axes=feature.row_axes, start=start, out=out))
            elif span.rows:
                near = Surroundings(source=source, window=feature.window, start=start, stop=start + span.rows)
                if near.sparse:  # much more is reached than the rows hold
                    for piece in near.pieces():
                        values = piece.allocate()
                        read_files(table.root, piece.wanted(values), checked=checked)
                        piece.cut(values, out[piece.start - near.start : piece.stop - near.start])
                    continue
                around.append((near, near.allocate(), out))
                wanted += near.wanted(around[-1][1])
    read_files(table.root, wanted, checked=checked)
    for near, values, out in around:
        near.cut(values, out)
    return {
        feature.name: _finish(table, feature, spans, targets.pop(feature.name))
        if feature.origin == "files"
        else _generate(table, feature, spans)
        for feature in features
    }


def _generate(table: SourceTable, feature: Feature, spans: Sequence[Span]) -> Array:
    """The values of a feature without files: the rows' numbers, the numbers of their directories, or a constant."""
    counts = np.array([span.rows for span in spans], np.int64)
    if feature.origin == "constant":
        return np.full(counts.sum(), feature.constant, feature.dtype)
    if feature.origin == "directory":
        return np.repeat(np.array([table.class_numbers[span.part] for span in spans], np.int64), counts)
    first = [int(table.first_rows[span.part]) + span.start for span in spans]
    begins = np.array(first, np.int64) - np.cumsum(counts) + counts
    return np.repeat(begins, counts) + np.arange(counts.sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Target:
    """Where the rows of a feature go: all together, and the rows of each span; strings are joined when all are read."""

    whole: Array | Ragged | None
    pieces: Sequence[Array]


def _allocate(table: SourceTable, feature: Feature, spans: Sequence[Span], empty: _Empty) -> _Target:
    if feature.dtype.kind in "SU":
        sources = [table.parts[span.part].sources[feature.name] for span in spans]
        pieces = [
            np.empty((span.rows, *feature.inner_shape), value_dtype(source))
            for span, source in zip(spans, sources, strict=True)
        ]
        return _Target(whole=None, pieces=pieces)
    if feature.ragged:
        steps = [table.parts[span.part].sources[feature.name].shape[0] for span in spans]
        values = empty((sum(steps), *feature.inner_shape), feature.dtype)
        whole = Ragged(values=values, lengths=np.array(steps, np.int64))
        return _Target(whole=whole, pieces=[piece[np.newaxis] for piece in _cut(values, steps)])
    array = empty((sum(span.rows for span in spans), *feature.inner_shape), feature.dtype)
    return _Target(whole=array, pieces=_cut(array, [span.rows for span in spans]))


def _cut(array: Array, counts: Sequence[int]) -> list[Array]:
    ends = list(itertools.accumulate(counts))
    return [array[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _finish(table: SourceTable, feature: Feature, spans: Sequence[Span], target: _Target) -> Array | Ragged:
    if target.whole is not None:
        return target.whole
    if not target.pieces:
        return np.empty((0, *feature.inner_shape), "S1")
    joined: Array = np.concatenate(target.pieces)
    if joined.dtype.kind == "S":
        return joined
    try:
        return encode_text(joined)
    except UnicodeEncodeError:
        raise _not_text(table, feature, spans, joined) from None


def _not_text(table: SourceTable, feature: Feature, spans: Sequence[Span], joined: Array) -> DataError:
    """Finds the first row whose text cannot be encoded."""
    for row in range(len(joined)):
        try:
            encode_text(joined[row : row + 1])
        except UnicodeEncodeError as error:
            path, number = locate_row(table, feature.name, spans, row)
            expected, found = "text that UTF-8 can encode", f"{error.reason} in row {number}"
            return DataError(str(Problem(path=path, feature=feature.name, expected=expected, found=found)))
    raise AssertionError("some row is no text")


def locate_row(table: SourceTable, feature: str, spans: Sequence[Span], row: int) -> tuple[str, int]:
    """The file of a row of some spans and the number there; where it has none, the feature and that in the part."""
    for span in spans:
        if row < span.rows:
            source = table.parts[span.part].sources.get(feature)
            if source is None:
                return feature, span.start + row
            return files.locate(table.root, source.path), source.start + span.start + row
        row -= span.rows
    raise IndexError(f"row {row} is after the end of the spans")


def encode_text(array: Array) -> Array:
    """Encodes text, of dtype `U`, in UTF-8, of dtype `S` and the same shape.

    Half of a surrogate pair, or no code point, is a UnicodeEncodeError.
    """
    if not array.size:
        return np.empty(array.shape, "S1")
    length = array.dtype.itemsize // 4
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
    largest = int(codes.max())
    if largest < 128:  # 50 times as fast as text by text
        return codes.astype(np.uint8).view(f"S{length}").reshape(array.shape)
    if largest > MAX_CODE_POINT:
        raise UnicodeEncodeError("utf-8", "", 0, 1, f"code point {largest:#x}")
    encoded: Array = np.strings.encode(array, "utf-8")
    return encoded


def find_unusable(feature: ResolvedFeature, columns: Columns) -> tuple[int, ...] | None:
    """The index of the first infinity that neither stands for a missing value nor is masked; or None."""
    values = values_of(columns[feature.name])
    if feature.mask is not None and values.dtype.kind == "f":
        values = np.where(masked_values(columns, feature.mask, values), values.dtype.type(0), values)
    return find_infinite(values, allowed=feature.missing)


def find_infinite(array: Array, *, allowed: Sequence[float] = ()) -> tuple[int, ...] | None:
    """The index of the first infinity that is not allowed, in an array of any dtype, of one axis at least; or None.

    NaN is a missing value, and a complex number with an infinity is infinite.
    """
    if array.dtype.kind not in "fc" or array.size == 0:
        return None
    signs = [sign for sign in (np.inf, -np.inf) if sign not in allowed] if array.dtype.kind == "f" else [np.inf]
    step = max(1, CHECK_ELEMENTS // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        some = array[start : start + step]
        # NumPy has no vector code for float16; on the bits it is 10 times as fast.
        half = some.dtype == np.float16 and some.dtype.isnative
        infinite = (some.view(np.uint16) & 0x7FFF) == 0x7C00 if half else np.isinf(some)
        if infinite.any():
            if array.dtype.kind == "f" and len(signs) < 2:
                infinite = np.isin(some, signs)
                if not infinite.any():
                    continue
            index = tuple(int(i) for i in np.unravel_index(int(np.argmax(infinite)), infinite.shape))
            return (start + index[0], *index[1:])
    return None


def _check_finite(table: SourceTable, feature: ResolvedFeature, columns: Columns, spans: Sequence[Span]) -> None:
    """Looks for infinities in a whole column; which row holds one is found only where there is one."""
    index = find_unusable(feature, columns)
    if index is not None:
        column = columns[feature.name]
        found = f"{values_of(column)[index]} in {{}}"
        raise _at(table, feature, column, spans, index, expected="finite values or NaN", found=found)


def _check_present(table: SourceTable, feature: ResolvedFeature, column: Array | Ragged, spans: Sequence[Span]) -> None:
    """Looks for missing values where there may be none."""
    missing = np.isnan(values_of(column))
    if missing.any():
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(missing)), missing.shape))
        expected = f"a value in every row (`features: {{{feature.name}: {{impute: none}}}}` keeps NaN)"
        raise _at(table, feature, column, spans, index, expected=expected, found="NaN in {}")


def _at(
    table: SourceTable,
    feature: ResolvedFeature,
    column: Array | Ragged,
    spans: Sequence[Span],
    index: tuple[int, ...],
    *,
    expected: str,
    found: str,
) -> DataError:
    """What is wrong with a value; `found` has a place for where it is."""
    row, *place = index
    if isinstance(column, Ragged):  # the first axis counts the steps of all rows
        ends = np.cumsum(column.lengths)
        row = int(np.searchsorted(ends, index[0], side="right"))
        place = [index[0] - int(ends[row] - column.lengths[row]), *place]
    path, number = locate_row(table, feature.name, spans, row)
    found = found.format(f"row {number}{f' at {tuple(place)}' if place else ''}")
    return DataError(str(Problem(path=path, feature=feature.name, expected=expected, found=found)))
