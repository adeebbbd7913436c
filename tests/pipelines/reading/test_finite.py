from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.reading import finite
from pipelines.reading.finite import check_finite


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
    check_finite(array, path="x.npy", feature="x", first_row=0)
    rows = sorted(data.draw(st.sets(st.integers(0, shape[0] - 1), min_size=1, max_size=3)))
    for row in rows:
        array.reshape(shape[0], -1)[row, data.draw(st.integers(0, array[row].size - 1))] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finite, "CHECK_ELEMENTS", chunk)
        with pytest.raises(DataError) as error:
            check_finite(array, path="x.npy", feature="x", first_row=1000)
    message = f"x.npy (feature x): expected finite values or NaN; found {value} in row {1000 + rows[0]}"
    where = tuple(np.argwhere(np.isinf(array))[0, 1:].tolist())
    assert str(error.value) == (f"{message} at {where}" if where else message)


def test_where_an_infinity_is_in_its_row_and_views() -> None:
    array = np.zeros((4, 3, 6), np.float16)
    array[2, 1, 4] = -np.inf
    with pytest.raises(DataError, match=r"found -inf in row 12 at \(1, 2\)"):
        check_finite(array[:, :, ::2], path="x.npy", feature="x", first_row=10)
    check_finite(array[:2], path="x.npy", feature="x", first_row=0)
    check_finite(array[:0], path="x.npy", feature="x", first_row=0)
    check_finite(np.full(3, 2**62), path="x.npy", feature="x", first_row=0)


def test_infinities_that_stand_for_a_missing_value() -> None:
    array = np.array([[1, np.inf], [np.nan, -np.inf]])
    check_finite(array, path="x.npy", feature="x", first_row=0, allowed=(np.inf, -np.inf, -9999))
    with pytest.raises(DataError, match=r"found -inf in row 1 at \(1,\)"):
        check_finite(array, path="x.npy", feature="x", first_row=0, allowed=(np.inf,))
    with pytest.raises(DataError, match=r"found inf in row 0 at \(1,\)"):
        check_finite(array, path="x.npy", feature="x", first_row=0, allowed=(-np.inf,))


def test_infinite_complex_numbers() -> None:
    with pytest.raises(DataError, match=r"found .*inf.* in row 2"):
        check_finite(np.array([1, 2j, complex(np.nan, -np.inf)]), path="x.npy", feature="x", first_row=0)
