"""Moments are exact: against rational arithmetic, for any cut and any order."""

import functools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.statistics import exact
from pipelines.statistics import moments as moments_module
from pipelines.statistics.exact import ExactSum
from pipelines.statistics.moments import Moments, column_moments, merge
from pipelines.statistics.summary import moments, summarize

R = np.random.default_rng(3)


def with_missing(values):
    values = values.copy()
    values[R.random(values.shape) < 0.2] = np.nan
    return values


def subnormal(dtype):
    return (np.finfo(dtype).smallest_subnormal * R.integers(-50, 50, (500, 3))).astype(dtype)


NORMAL = R.standard_normal((3000, 3))
CASES = {
    "float32": NORMAL.astype("float32"),
    "float16": NORMAL.astype("float16"),
    "float32 of mean 1e6": (NORMAL + 1e6).astype("float32"),
    "float64 of mean 1.7e9": NORMAL + 1.7e9,
    "columns of very different sizes": NORMAL * [1e-300, 1, 1e140],
    "values of very different sizes": NORMAL * 10.0 ** R.integers(-160, 150, NORMAL.shape),
    "float32 of very different sizes": (NORMAL * 10.0 ** R.integers(-44, 37, NORMAL.shape)).astype("float32"),
    "tiny": NORMAL * 1e-200,
    "subnormal float64": subnormal("float64"),
    "subnormal float32": subnormal("float32"),
    "subnormal among others": np.concatenate([NORMAL, subnormal("float64")]),
    "missing": with_missing(NORMAL),
    "missing float32": with_missing(NORMAL.astype("float32")),
    "a column is missing": np.where([True, False, True], NORMAL, np.nan),
    "constant": np.full((2500, 3), [3.3, 1e-310, -1e150]),
    "nearly constant": np.where(np.arange(3000)[:, None] == 7, np.nextafter(1.7e9, 2e9), 1.7e9) * np.ones(3),
    "single row": NORMAL[:1],
    "zeros": np.zeros((20, 3)),
    "bool": NORMAL > 0,
    "big-endian": NORMAL.astype(">f4"),
    "columns first": np.asfortranarray(NORMAL),
    **{
        name: R.integers(np.iinfo(name).min, np.iinfo(name).max, (3000, 3), dtype=name, endpoint=True)
        for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    },
    "int64 above 2**53": R.integers(2**53, 2**53 + 3, (3000, 3)),
    "few distinct int64": R.integers(0, 4, (3000, 3)),
    "int64 of 40 bits": R.integers(-(2**40), 2**40, (3000, 3)),
}


def rational(column):
    """The count, the mean as the float64 nearest to the exact one, and the exact variance of a column."""
    values = [Fraction(x) for x in column.tolist() if x == x]
    if not values:
        return 0, math.nan, math.nan
    # As integers over one denominator: adding fractions would reduce each sum.
    scale = max(x.denominator for x in values)
    integers = [int(x * scale) for x in values]
    n, total, squares = len(integers), sum(integers), sum(x * x for x in integers)
    return n, total / (n * scale), Fraction(n * squares - total**2, (n * scale) ** 2)


def cuts(rows, generator):
    return np.sort(generator.integers(0, rows + 1, generator.integers(0, 12)))


def assert_same(a, b):
    for name, array in a.arrays().items():
        assert array.tobytes() == b.arrays()[name].tobytes(), name


@pytest.mark.parametrize("name", CASES)
def test_mean_and_variance_are_the_float64_nearest_to_the_exact_ones(name):
    values = CASES[name]
    found = summarize(column_moments(values))
    for i, column in enumerate(values.T):
        count, mean, variance = rational(column)
        assert found.count[i] == count
        assert found.missing[i] == len(column) - count
        np.testing.assert_array_equal(found.mean[i], mean)
        if variance < 2**-1000:  # as a float64 it would lose digits, or be 0
            np.testing.assert_allclose(found.std[i], math.sqrt(variance * 2**1200) * 2.0**-600, rtol=1e-15)
        else:
            np.testing.assert_array_equal(found.std[i], math.sqrt(variance))


@pytest.mark.parametrize("name", CASES)
def test_no_cut_and_no_order_changes_a_bit(name):
    values, generator = CASES[name], np.random.default_rng(11)
    whole = column_moments(values)
    for _ in range(6):
        blocks = [column_moments(block) for block in np.split(values, cuts(len(values), generator))]
        blocks = [blocks[i] for i in generator.permutation(len(blocks))]
        merged = functools.reduce(merge, blocks)
        assert_same(summarize(merged), summarize(whole))
        for key, array in merged.to_arrays().items():  # not only what is rounded from them
            np.testing.assert_array_equal(array, whole.to_arrays()[key], err_msg=key)


ANY_FLOAT = st.floats(allow_infinity=False, width=64)


@settings(deadline=None)
@given(
    values=hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=ANY_FLOAT),
    where=st.lists(st.integers(0, 40), max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_any_floats_are_added_exactly(values, where, order):
    blocks = [column_moments(block) for block in np.split(values, sorted(where))]
    order.shuffle(blocks)
    merged, whole = functools.reduce(merge, blocks), column_moments(values)
    assert_same(summarize(merged), summarize(whole))
    for power, sums in ((1, merged.total), (2, merged.squares)):
        integers, scale = sums.integers()
        expected = [sum(Fraction(x) ** power for x in column if x == x) for column in values.T.tolist()]
        assert [int(x) * Fraction(2) ** scale for x in integers] == expected


@settings(deadline=None)
@given(
    values=hnp.arrays(
        st.sampled_from([np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64]),
        st.tuples(st.integers(1, 40), st.integers(1, 3)),
    )
)
def test_any_integers_are_added_exactly(values):
    found = column_moments(values)
    for power, sums in ((1, found.total), (2, found.squares)):
        integers, scale = sums.integers()
        assert [int(x) * 2**scale for x in integers] == [sum(x**power for x in c) for c in values.T.tolist()]


@pytest.mark.parametrize("over", ["element", "channel", "all", (0,), (0, -1), (1, 0)])
@pytest.mark.parametrize("shape", [(40, 5, 3), (3, 700, 2), (5, 2, 3000)])
def test_any_axes_can_share_a_statistic(over, shape):
    values = with_missing(np.random.default_rng(1).standard_normal((7, *shape)).astype("float32"))
    kept = {"element": (0, 1, 2), "channel": (2,), "all": ()}.get(over) or tuple(
        sorted(a % 3 for a in over if over != "all")
    )
    axes = tuple(axis for axis in range(4) if axis - 1 not in kept)
    wide = values.astype(np.longdouble)
    found = summarize(merge(moments(values[:3], over), moments(values[3:], over)))
    np.testing.assert_array_equal(found.count, (~np.isnan(wide)).sum(axis=axes))
    with np.errstate(all="ignore"):
        known = found.count > 0
        np.testing.assert_allclose(found.mean[known], np.nanmean(wide, axis=axes)[known].astype(float), rtol=1e-12)
        np.testing.assert_allclose(
            found.std[known], np.nanstd(wide, axis=axes)[known].astype(float), rtol=1e-12, atol=1e-18
        )


def test_values_whose_squares_overflow_have_an_infinite_deviation():
    found = summarize(column_moments(np.array([[1e308, 1e300], [-1e308, 1e300], [1e308, 1e300]])))
    np.testing.assert_array_equal(found.mean, [1e308 / 3, 1e300])
    np.testing.assert_array_equal(found.std, [math.inf, 0])


def test_values_whose_squares_underflow_have_their_deviation():
    np.testing.assert_allclose(summarize(column_moments(NORMAL * 1e-250)).std, NORMAL.std(axis=0) * 1e-250, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities_are_what_numpy_makes_of_them_and_spoil_no_other_column(dtype):
    values = np.array([[1, 1, 1, 1], [np.inf, -np.inf, np.inf, 2], [3, 3, -np.inf, np.nan]], dtype)
    for pieces, times in ((1, 1), (3, 1), (3, 1000)):
        blocks = np.array_split(np.tile(values, (times, 1)), pieces)
        found = summarize(functools.reduce(merge, map(column_moments, blocks)))
        np.testing.assert_array_equal(found.mean, [np.inf, -np.inf, np.nan, 1.5])
        np.testing.assert_array_equal(found.std, [np.nan, np.nan, np.nan, 0.5])
        np.testing.assert_array_equal(found.count, np.array([3, 3, 3, 2]) * times)


def test_moments_survive_arrays_and_pickle():
    for values in (CASES["values of very different sizes"], NORMAL[:0], CASES["uint64"]):
        found = column_moments(values)
        for copy in (Moments.from_arrays(found.to_arrays()), pickle.loads(pickle.dumps(found))):
            assert_same(summarize(merge(copy, column_moments(NORMAL))), summarize(merge(found, column_moments(NORMAL))))


def number(value, place):
    digits = [(value >> (32 * k)) & (2**32 - 1) for k in range(6)] + [value >> 192]
    return exact.normalized(np.array(digits, dtype=np.int64)[:, None], place)


@given(
    st.lists(st.integers(-(2**150), 2**150), min_size=1, max_size=6),
    st.lists(st.integers(-9, 9), min_size=6, max_size=6),
)
def test_exact_sums_of_any_integers(numbers, places):
    sums = [number(value, place) for value, place in zip(numbers, places, strict=False)]
    total = functools.reduce(ExactSum.__add__, sums)
    integers, scale = total.integers()
    expected = sum(n * Fraction(2) ** (32 * p) for n, p in zip(numbers, places, strict=False))
    assert int(integers[0]) * Fraction(2) ** scale == expected
    again = functools.reduce(ExactSum.__add__, sums[::-1])
    assert (again.first, again.digits.tolist()) == (total.first, total.digits.tolist())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_signalling_nan_hides_no_value(dtype):
    bits = {"float16": 0x7C01, "float32": 0x7F800001, "float64": 0x7FF0000000000001}[dtype]
    column = np.array([1, 2, 3, 5], dtype)
    column[[0, 2]] = np.array([bits] * 2, f"uint{np.dtype(dtype).itemsize * 8}").view(dtype)
    found = summarize(moments(column, "element"))
    assert (found.count, found.missing, found.min, found.max, found.mean) == (2, 2, 2, 5, 3.5)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_wide_rows_are_cut_into_bands(dtype, monkeypatch):
    columns = np.random.default_rng(5).integers(-1000, 1000, (9, 23)).astype(dtype)
    whole = column_moments(columns).to_arrays()
    monkeypatch.setattr(moments_module, "BAND", 5)
    cut = column_moments(columns).to_arrays()
    assert whole.keys() == cut.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(cut[name], array)


def test_many_columns_are_rounded_in_bands(monkeypatch):
    columns = np.random.default_rng(6).normal(size=(9, 24))
    found = column_moments(columns)
    whole = found.mean_and_std
    monkeypatch.setattr(moments_module, "BAND", 5)
    for shape in ((24,), (4, 6)):
        for cut, expected in zip(found.reshape(*shape).mean_and_std, whole, strict=True):
            np.testing.assert_array_equal(cut, expected.reshape(shape))


NUMBERS = st.lists(st.integers(-(2**200), 2**200), min_size=1, max_size=6)


def value_of(numbers):
    integers, scale = numbers.integers()
    return [Fraction(int(integer)) * Fraction(2) ** scale for integer in integers]


@given(a=NUMBERS, b=NUMBERS, place=st.integers(-40, 40), other=st.integers(-40, 40))
def test_products_and_signs_are_exact(a, b, place, other):
    size = min(len(a), len(b))
    first, second = (
        exact.concatenate([number(value, at) for value in values[:size]]) for values, at in ((a, place), (b, other))
    )
    scaled = [[Fraction(v) * Fraction(2) ** (32 * at) for v in vs[:size]] for vs, at in ((a, place), (b, other))]
    assert value_of(-first) == [-value for value in scaled[0]]
    assert value_of(abs(first)) == [abs(value) for value in scaled[0]]
    products = abs(first).times(abs(second))
    assert value_of(products) == [abs(x * y) for x, y in zip(*scaled, strict=True)]
