"""What 64-bit significands say of a column is what integer arithmetic says, and they say it of most."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.statistics import extended, moments


def compare(values):
    """Means and deviations against those of Python's integers, bit for bit; the share that was sure."""
    found = moments.column_moments(values)
    exact = moments._rounded(found)
    for one, other in zip(found.mean_and_std, exact, strict=True):
        np.testing.assert_array_equal(one.view(np.int64), other.view(np.int64))
    mean, std, sure = extended.mean_and_std(found.total, found.squares, found.count)
    sure &= np.isfinite(found.low) & np.isfinite(found.high)
    for one, other in zip((mean, std), exact, strict=True):
        np.testing.assert_array_equal(one[sure].view(np.int64), other[sure].view(np.int64))
    return sure.mean()


@pytest.mark.skipif(not extended.AVAILABLE, reason="np.longdouble is float64 here")
@pytest.mark.parametrize("offset", [0, 3, -1e9])
def test_most_columns_need_no_integers(offset):
    assert compare(np.random.default_rng(1).normal(size=(50, 4000)) + offset) > 0.95


@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 40),
    low=st.integers(-300, 100),
    width=st.integers(0, 50),
    kind=st.sampled_from(["normal", "integers", "constant", "sparse", "missing"]),
)
def test_equal_to_integer_arithmetic(seed, rows, low, width, kind):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 30)) * 10.0 ** rng.integers(low, low + width + 1, 30)
    if kind == "integers":
        values = np.round(values)
    elif kind == "constant":
        values[:] = values[0]
    elif kind == "sparse":
        values[rng.random(values.shape) < 0.9] = 0
    elif kind == "missing":
        values[rng.random(values.shape) < 0.3] = np.nan
    compare(values)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "bool"])
def test_every_dtype(dtype):
    rng = np.random.default_rng(2)
    info = {"float32": 100, "bool": 2, "uint8": 256}.get(dtype, 30_000)
    compare((rng.random((30, 500)) * info).astype(dtype))


def test_columns_that_are_not_sure():
    values = np.random.default_rng(3).normal(size=(9, 7))
    values[:, 1], values[:, 2], values[3, 3], values[:, 4] = np.nan, 1e200, np.inf, 1e-170
    values[4:, 5] = np.nan
    compare(values)
