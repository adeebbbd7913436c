from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.sources.formats import boxes
from pipelines.sources.formats.boxes import of_range, requests


@hypothesis.given(data=st.data(), shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
def test_boxes_are_the_range_in_order(data: st.DataObject, shape: tuple[int, ...]) -> None:
    grid = np.arange(np.prod(shape)).reshape(shape)
    start = data.draw(st.integers(0, grid.size))
    stop = data.draw(st.integers(start, grid.size))
    found = of_range(shape, start, stop)
    assert [i for box in found for i in grid[box].ravel()] == list(range(start, stop))
    assert len(found) <= 2 * len(shape) - 1


@hypothesis.given(data=st.data(), shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
def test_requests_cover_a_box_once_within_the_limits(data: st.DataObject, shape: tuple[int, ...]) -> None:
    starts = [data.draw(st.integers(0, length - 1)) for length in shape]
    box = tuple(
        slice(start, data.draw(st.integers(start + 1, length))) for start, length in zip(starts, shape, strict=True)
    )
    gap, buffer = data.draw(st.integers(0, 100)), data.draw(st.integers(4, 400))
    grid = 4 * np.arange(np.prod(shape)).reshape(shape, order="F")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "GAP_BYTES", gap)
        patch.setattr(boxes, "BUFFER_BYTES", buffer)
        found = [np.sort(grid[request].ravel()) for request in requests(shape, box, 4)]
    assert np.array_equal(np.sort(np.concatenate(found)), np.sort(grid[box].ravel()))
    assert [places[0] for places in found] == sorted(places[0] for places in found)
    for places in found:
        assert places[-1] + 4 - places[0] <= buffer
        assert np.all(np.diff(places) - 4 <= gap)
