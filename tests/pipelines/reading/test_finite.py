from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.reading import columns
from pipelines.reading.columns import find_infinite


@hypothesis.given(
    dtype=st.sampled_from(["<f2", ">f2", "<f4", ">f4", "f8"]),
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
    value=st.sampled_from([np.inf, -np.inf]),
    chunk=st.integers(1, 100),
    data=st.data(),
)
def test_finds_the_first_infinity(
    dtype: str, shape: tuple[int, ...], value: float, chunk: int, data: st.DataObject
) -> None:
    array = np.full(shape, np.nan, dtype)
    array[::2] = np.finfo(dtype).max
    assert find_infinite(array) is None
    rows = sorted(data.draw(st.sets(st.integers(0, shape[0] - 1), min_size=1, max_size=3)))
    for row in rows:
        array.reshape(shape[0], -1)[row, data.draw(st.integers(0, array[row].size - 1))] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "CHECK_ELEMENTS", chunk)
        found = find_infinite(array)
    assert found == tuple(np.argwhere(np.isinf(array))[0].tolist())
    assert array[found] == value


def test_where_an_infinity_is_in_its_row_and_views() -> None:
    array = np.zeros((4, 3, 6), np.float16)
    array[2, 1, 4] = -np.inf
    assert find_infinite(array[:, :, ::2]) == (2, 1, 2)
    assert find_infinite(array[:2]) is None
    assert find_infinite(array[:0]) is None
    assert find_infinite(np.full(3, 2**62)) is None


def test_infinities_that_stand_for_a_missing_value() -> None:
    array = np.array([[1, np.inf], [np.nan, -np.inf]])
    assert find_infinite(array, allowed=(np.inf, -np.inf, -9999)) is None
    assert find_infinite(array, allowed=(np.inf,)) == (1, 1)
    assert find_infinite(array, allowed=(-np.inf,)) == (0, 1)


def test_infinite_complex_numbers() -> None:
    assert find_infinite(np.array([1, 2j, complex(np.nan, -np.inf)])) == (2,)
