"""Which rows go to which split, and which are dropped; reads the columns that this takes, and no other."""

from __future__ import annotations

import collections
import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.order import hashing
from loaders.order.row_filter import parse_filter, passes
from pipelines.config.feature import Feature
from pipelines.config.split_rules import (
    BlockSplits,
    ColumnSplits,
    GroupSplits,
    SplitRule,
    StratifiedSplits,
    TimeSplits,
    time_thresholds,
)
from pipelines.errors import DataError, Problem
from pipelines.plan.plan import Plan
from pipelines.plan.units import Span
from pipelines.reading.batches import Columns
from pipelines.reading.columns import locate_row, read_columns

STAGE = "split"
DROPPED = -1

SEGMENT_ROWS = 65_536
"""Rows of a part among which each class has its fractions: fixed runs, so files that come later change none."""

CACHED_SEGMENTS = 256
"""Segments whose answer a process keeps, 128 KiB each: a task's blocks come from everywhere, several from a segment."""

# The second words of keys derived for `hashing.SPLIT`; those of single rows have the key of the part's name there.
_GROUPS, _CLASSES, _FIRST_RANKS, _BLOCKS = range(1, 5)

_NAT = np.iinfo(np.int64).min

Splits = npt.NDArray[np.intp]


def assign(plan: Plan, spans: Sequence[Span], *, stage: str = STAGE) -> Splits:
    """The split of each row of some spans, as numbers in the splits of the row's group.

    It is a function of the seed, the part's name, the row's index and the values that the rule reads (for classes:
    those of the row's segment), so files that are added later move no row.

    Returns:
        intp `[rows of all spans]`, one span after the other; -1 is a row that the filter drops, or that a column of
        splits gives a negative number.

    Raises:
        DataError: If a value names no split: a number that is too large, or a time that is missing.
    """
    rule = plan.config.splits
    if not spans:
        return np.zeros(0, dtype=np.intp)
    if isinstance(rule, StratifiedSplits):
        return np.concatenate([_stratified(plan, rule, span, stage) for span in spans])
    columns = _read(plan, spans, stage)
    match rule:
        case BlockSplits():
            numbers = np.concatenate([_by_block(plan, rule, span) for span in spans])
        case SplitRule():
            numbers = by_values(plan, rule, columns)
        case str():
            numbers = np.zeros(sum(span.rows for span in spans), dtype=np.intp)
        case _:
            numbers = cut(hashing.unit(plan.row_hashes(hashing.SPLIT, spans)), rule)
    if plan.config.filter is not None:
        numbers[~_passes_filter(plan, columns)] = DROPPED
    if (wrong := numbers < DROPPED).any():
        raise _no_split(plan, rule, columns, spans, row=int(np.argmax(wrong)))
    return numbers


def splits_of(plan: Plan, spans: Sequence[Span], *, stage: str = STAGE) -> npt.NDArray[np.intp]:
    """The split of each row as a number in `plan.splits`; -1 for a row that is dropped. Reads count for `stage`."""
    numbers = assign(plan, spans, stage=stage)
    if not isinstance(plan.config.splits, str):
        return numbers
    splits = [plan.splits.index(str(plan.table.parts[span.part].split)) for span in spans]
    own = np.repeat(np.array(splits, dtype=np.intp), [span.rows for span in spans])
    return np.where(numbers < 0, numbers, own)


def needed(plan: Plan) -> tuple[str, ...]:
    """The features that splits and filter need."""
    names = set()
    if isinstance(plan.config.splits, SplitRule) and not isinstance(plan.config.splits, BlockSplits):
        names.add(plan.config.splits.feature)
    if plan.config.filter is not None:
        names.add(parse_filter(plan.config.filter).feature)
    return tuple(sorted(names))


def _read(plan: Plan, spans: Sequence[Span], stage: str) -> Columns:
    names = needed(plan)
    return read_columns(plan, spans, stage=stage, features=names) if names else {}


def _passes_filter(plan: Plan, columns: Columns) -> npt.NDArray[np.bool_]:
    assert plan.config.filter is not None, "asked only where there is a filter"
    row_filter = parse_filter(plan.config.filter)
    return passes(row_filter, columns[row_filter.feature])


def cut(positions: npt.NDArray[np.float64], fractions: Mapping[str, float]) -> Splits:
    """The split in whose interval each position falls, where [0, 1) is cut by the fractions in their order."""
    bounds = np.cumsum(tuple(fractions.values()))[:-1]  # that of the last is 1, whatever the rounding
    return np.searchsorted(bounds, positions, side="right")


_WRONG = -2
"""Stands for a split while it is not known whether the filter drops the row."""


def by_values(plan: Plan, rule: SplitRule, columns: Columns) -> Splits:
    """The split of each row by its own value; below -1 where the value names none.

    A row whose window holds several values belongs to none: of groups several groups, else values of several splits.
    """
    values = columns[rule.feature]
    window = _feature(plan, rule).window
    if window is None:
        return _by_value(plan, rule, values)
    steps = values.reshape(-1, *values.shape[1 + len(window.shape) :])
    numbers = _by_value(plan, rule, steps).reshape(len(values), -1)
    alike = hash_values(steps, 0).reshape(numbers.shape) if isinstance(rule, GroupSplits) else numbers
    return np.where((alike != alike[:, :1]).any(axis=1), np.minimum(numbers.min(axis=1), DROPPED), numbers[:, 0])


def _feature(plan: Plan, rule: SplitRule) -> Feature:
    """The feature that a rule reads, as the sources have it."""
    return next(feature for feature in plan.table.features if feature.name == rule.feature)


def _by_value(plan: Plan, rule: SplitRule, values: npt.NDArray[Any]) -> Splits:
    match rule:
        case GroupSplits():
            key = hashing.derive(plan.config.seed, hashing.SPLIT, _GROUPS)
            return cut(hashing.unit(hash_values(values, key)), rule.fractions)
        case ColumnSplits():
            flat = values.reshape(-1)
            known = flat < len(rule.names)
            numbers = np.where(known, flat, 0).astype(np.intp)
            return np.where(known, np.maximum(numbers, DROPPED), _WRONG)
        case TimeSplits():
            flat, unit = values.reshape(-1), _feature(plan, rule).unit
            thresholds = time_thresholds(rule, unit)
            numbers = np.sum([flat >= threshold for threshold in thresholds], axis=0, dtype=np.intp)
            return np.where(flat == _NAT if unit else np.isnan(flat), _WRONG, numbers)
    raise AssertionError(f"a rule without a way to follow it: {rule!r}")


def _by_block(plan: Plan, rule: BlockSplits, span: Span) -> Splits:
    """The split of the block that each row lies in; dropped where its window reaches into one of another split."""
    feature, part = _feature(plan, rule), plan.table.parts[span.part]
    lengths, window = part.sources[rule.blocks].shape[: feature.row_axes], feature.window
    key = hashing.derive(plan.config.seed, hashing.SPLIT, _BLOCKS, hashing.text_key(part.name))
    places = np.unravel_index(np.arange(span.start, span.stop), lengths if window is None else window.grid(lengths))
    counts = [-(-length // size) for length, size in zip(lengths, rule.size, strict=True)]

    def split_at(corner: Sequence[npt.NDArray[np.intp]]) -> Splits:
        blocks = [place // size for place, size in zip(corner, rule.size, strict=True)]
        return cut(hashing.unit(hashing.stream(key, np.ravel_multi_index(blocks, counts))), rule.fractions)

    if window is None:
        return split_at(places)
    ends = [window.reach(axis, place, place, lengths[axis]) for axis, place in enumerate(places)]
    first, *others = (split_at(corner) for corner in itertools.product(*ends))  # a block is as large as a window
    return np.where(np.all([first == other for other in others], axis=0), first, DROPPED)


def _no_split(plan: Plan, rule: object, columns: Columns, spans: Sequence[Span], *, row: int) -> DataError:
    """What is wrong with the value of a row that names no split."""
    assert isinstance(rule, ColumnSplits | TimeSplits), "hashes always name a split"
    values = columns[rule.feature][row].reshape(-1)
    found = values[int(np.argmin(_by_value(plan, rule, values)))]
    expected, shown = "a value that is not missing, by which rows are split", "NaT" if found == _NAT else str(found)
    if isinstance(rule, ColumnSplits):
        expected = f"the number of a split, at most {len(rule.names) - 1}"
    path, number = locate_row(plan.table, rule.feature, spans, row)
    return DataError(str(Problem(path=path, feature=rule.feature, expected=expected, found=f"{shown} in row {number}")))


def _stratified(plan: Plan, rule: StratifiedSplits, span: Span, stage: str) -> Splits:
    """The split of each row of a span, from the answers of the segments that it lies in."""
    first, last = span.start // SEGMENT_ROWS, (span.stop - 1) // SEGMENT_ROWS
    pieces = [np.zeros(0, dtype=np.intp)]
    for segment in range(first, last + 1):
        offset = segment * SEGMENT_ROWS
        answer = _segment(plan, rule, span.part, segment, stage)
        pieces.append(answer[max(span.start - offset, 0) : span.stop - offset].astype(np.intp))
    return np.concatenate(pieces)


_segments: collections.OrderedDict[object, npt.NDArray[np.int16]] = collections.OrderedDict()
_segments_lock = threading.Lock()


def _segment(plan: Plan, rule: StratifiedSplits, part: int, segment: int, stage: str) -> npt.NDArray[np.int16]:
    """The answer of a segment, from those that this process has kept if it is there."""
    source = plan.table.parts[part]
    names = needed(plan)
    read = repr([feature for feature in plan.table.features if feature.name in names])
    arrays = repr([source.sources.get(name) for name in names])
    place = (plan.table.root, source.name, source.directory, int(plan.table.first_rows[part]), segment)
    key = (*place, read, arrays, plan.config.seed, repr(rule), plan.config.filter)
    with _segments_lock:
        if key in _segments:
            _segments.move_to_end(key)
            return _segments[key]
    start = segment * SEGMENT_ROWS
    span = Span(part=part, start=start, stop=min(start + SEGMENT_ROWS, source.rows))
    answer = _stratify(plan, rule, span, segment, stage)
    with _segments_lock:
        _segments[key] = answer
        if len(_segments) > CACHED_SEGMENTS:
            _segments.popitem(last=False)
    return answer


def _stratify(plan: Plan, rule: StratifiedSplits, span: Span, segment: int, stage: str) -> npt.NDArray[np.int16]:
    """Splits one segment: the j-th of the n rows of a class, by their hashes, stands at (j + u) / n.

    u is one hash for each class, so that a class of a few rows does not have the first of them in the same split
    everywhere.
    """
    columns = _read(plan, [span], stage)
    rows = np.arange(span.rows)
    if plan.config.filter is not None:
        rows = rows[_passes_filter(plan, columns)]
    seed, name = plan.config.seed, hashing.text_key(plan.table.parts[span.part].name)
    classes = hash_values(columns[rule.feature], hashing.derive(seed, hashing.SPLIT, _CLASSES))[rows]
    by_class = np.lexsort((plan.row_hashes(hashing.SPLIT, [span])[rows], classes))
    classes = classes[by_class]
    starts = np.flatnonzero(np.concatenate([[True], classes[1:] != classes[:-1]])[: len(classes)])
    counts = np.diff(starts, append=len(classes))
    key = hashing.derive(seed, hashing.SPLIT, _FIRST_RANKS, name, segment)
    first = hashing.unit(hashing.derive_all(key, classes[starts]))
    ranks = np.arange(len(classes)) - np.repeat(starts, counts)
    numbers = np.full(span.rows, DROPPED, dtype=np.int16)
    numbers[rows[by_class]] = cut((ranks + np.repeat(first, counts)) / np.repeat(counts, counts), rule.fractions)
    return numbers


def hash_values(values: npt.NDArray[Any], key: int) -> hashing.U64:
    """A hash of each row's values: equal for equal numbers of any integer width, and for equal strings of any width.

    It is `hashing.derive(key, w1, w2, …)` without its first step, over one word for each element: an integer or a bool
    as 64 bits; a float as the bits of its float64 (with -0 as 0, and one NaN); a complex number as two floats; a string
    as the hash, under the key 0, of its bytes (eight a word, the first one lowest, filled up with 0) and their number.

    Args:
        values: `[rows, *shape]`, of bool, integers, floats, complex numbers, or bytes (NumPy's `S`).
        key: 64 bits.

    Returns:
        uint64 `[rows]`.
    """
    hashes = np.full(len(values), key, dtype=np.uint64)
    for word in _words(values).T:
        hashes = hashing.derive_all(hashes, word)
    return hashes


def _words(values: npt.NDArray[Any]) -> hashing.U64:
    """One word for each element of a row (two for a complex number), `[rows, words]`."""
    flat = np.ascontiguousarray(values).reshape(len(values), int(np.prod(values.shape[1:])))
    if flat.dtype.kind == "S":
        return _hash_text(flat.reshape(-1)).reshape(flat.shape)
    if flat.dtype.kind == "c":
        flat = flat.view(np.dtype(f"f{flat.dtype.itemsize // 2}"))
    if flat.dtype.kind == "f":
        floats = flat.astype(np.float64) + 0.0
        floats[np.isnan(floats)] = np.nan
        return floats.view(np.uint64)
    return flat.astype(np.uint64) if flat.dtype.kind == "u" else flat.astype(np.int64).view(np.uint64)


def _hash_text(values: npt.NDArray[np.bytes_]) -> hashing.U64:
    """The hash of each string `[n]`, one word after the other for all strings that are so long."""
    words = -(-values.dtype.itemsize // 8)
    padded = values.astype(f"S{words * 8}").view("<u8").astype(np.uint64).reshape(len(values), words)
    lengths = np.strings.str_len(values)
    hashes = np.zeros(len(values), dtype=np.uint64)
    for number in range(words):
        hashes = np.where(lengths > 8 * number, hashing.derive_all(hashes, padded[:, number]), hashes)
    return hashing.derive_all(hashes, lengths.astype(np.uint64))
