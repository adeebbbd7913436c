"""Which rows of a view a row filter keeps: their values are read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loaders.format.manifest import Manifest
from loaders.order import state
from loaders.order.row_filter import RowFilter, expected_of_filter, parse_filter, passes
from loaders.order.split_slices import View, ViewChunks
from loaders.reading.row_reader import LOST, RowReader, stored_steps
from loaders.storage.damaged_records import SkippedRecords
from loaders.storage.shards import Shards

if TYPE_CHECKING:
    from loaders.storage.cache import Cache

MOST_HELD = 16
"""How many answers are remembered."""

_HELD: dict[tuple[str, str, str, RowFilter], View] = {}
"""The rows that were found, by data set, view and filter: a program makes several loaders of them."""


def rows_where(
    root: str, manifest: Manifest, view: View, text: str | None, *, cache: Cache | None, skipped: SkippedRecords | None
) -> View:
    """The rows of a view that a filter keeps; all for None.

    Args:
        root: Where the data set is.
        manifest: What it holds.
        view: The rows.
        text: The filter, of a feature that the shards hold.
        cache: Where copies of the shards are kept, or None.
        skipped: Where rows are noted that cannot be read, which are kept; None if they are an error.

    Raises:
        ShardError: If a row cannot be read, and none may be left out.
        ValueError: If the filter does not fit the features, or keeps no row.
    """
    if text is None:
        return view
    row_filter, fingerprint = parse_filter(text), state.fingerprint(manifest)
    name = (root, fingerprint, view.name, row_filter)
    if name not in _HELD:
        feature = _check(view, row_filter, text)
        shards = Shards(root, view.manifest, view.split, names=[feature], cache=cache, data_set=fingerprint)
        chosen = _matching(RowReader(shards, skipped), view, row_filter)
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


def _matching(reader: RowReader, view: View, row_filter: RowFilter) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows of a view a filter keeps, and those that are lost: bool of shape [rows]."""
    shards, chosen = reader.shards, np.zeros(view.rows, np.bool_)
    for start, runs in stored_steps(shards, ViewChunks.of(shards.chunks, view.ranges), view.rows):
        sizes = runs.stop - runs.start
        columns, numbers = shards.empty(int(sizes.sum())), np.arange(sizes.sum())
        reader.read(runs, columns, np.cumsum(sizes) - sizes, None, numbers)
        found = passes(row_filter, columns[row_filter.feature])
        chosen[start : start + len(numbers)] = found | (numbers == LOST)
    return chosen
