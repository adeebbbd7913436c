"""Which rows of a view a row filter keeps: their values are read once."""

from __future__ import annotations

import numpy as np

from loaders.order.row_filter import RowFilter, expected_of_filter, parse_filter, passes
from loaders.order.split_slices import View
from loaders.reading.row_reader import LOST, RowReader, Source

MOST_HELD = 16
"""How many answers are remembered."""

_HELD: dict[tuple[str, str, str, RowFilter], View] = {}
"""The rows that were found, by data set, view and filter: a program makes several loaders of them."""


def rows_where(source: Source, text: str | None) -> View:
    """The rows of a source that a filter of a stored feature keeps, and those that cannot be read; all for None.

    Raises:
        ShardError: If a row cannot be read, and none may be left out.
        ValueError: If the filter does not fit the features, or keeps no row.
    """
    view, skipped = source.view, source.skipped
    if text is None:
        return view
    row_filter = parse_filter(text)
    name = (source.root, source.fingerprint, view.name, row_filter)
    if name not in _HELD:
        chosen = _matching(RowReader(source, [_check(view, row_filter, text)]), row_filter)
        if not chosen.any():
            raise ValueError(f"where: expected a filter that keeps rows of {view.name}; found {text!r}, which has none")
        found = view.only(chosen)
        if skipped is not None and skipped.found():  # what cannot be read now may be read by the next loader
            return found
        while len(_HELD) >= MOST_HELD:
            _HELD.pop(next(iter(_HELD)), None)
        _HELD[name] = found
    return _HELD[name]


def _check(view: View, row_filter: RowFilter, text: str) -> str:
    """The name of the filter's feature, which it fits."""
    features = {feature.name: feature for feature in view.manifest.features}
    spec = features.get(row_filter.feature)
    if spec is None:
        raise ValueError(f"where: expected a feature, one of {', '.join(features)}; found {row_filter.feature!r}")
    expected: str | None = f"a feature of one value a row, and {spec.name} has rows of shape {list(spec.shape)}"
    if not spec.ragged and spec.row_elements == 1:
        expected = expected_of_filter(row_filter, spec)
    if expected:
        raise ValueError(f"where: expected {expected}; found {text!r}")
    return spec.name


def _matching(reader: RowReader, row_filter: RowFilter) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows of a view a filter keeps, and those that are lost: bool of shape [rows]."""
    chosen = np.zeros(reader.view.rows, np.bool_)
    for start, runs in reader.stored_steps():
        sizes = runs.stop - runs.start
        columns, numbers = reader.shards.empty(int(sizes.sum())), np.arange(sizes.sum())
        reader.read(runs, columns, np.cumsum(sizes) - sizes, None, numbers)
        found = passes(row_filter, columns[row_filter.feature])
        chosen[start : start + len(numbers)] = found | (numbers == LOST)
    return chosen
