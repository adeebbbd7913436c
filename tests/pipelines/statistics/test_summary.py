"""Statistics against NumPy in long double, and what shares one."""

import functools
from fractions import Fraction

import numpy as np
import pytest
from sklearn.impute import SimpleImputer

from pipelines.statistics.summary import (
    Statistics,
    broadcast_shape,
    impute,
    merge,
    moments,
    statistics_axes,
    statistics_shape,
    summarize,
)

AXES = {"element": lambda x: 0, "channel": lambda x: tuple(range(x.ndim - 1)), "all": lambda x: None}


def describe(values, over="element", *, pieces=1):
    """The statistics of an array that is cut into blocks."""
    return summarize(functools.reduce(merge, (moments(block, over) for block in np.array_split(values, pieces))))


def oracle(values, over="element"):
    axis, wide = AXES[over](values), values.astype(np.longdouble)
    return {
        "count": np.sum(~np.isnan(wide), axis=axis),
        "missing": np.sum(np.isnan(wide), axis=axis),
        "min": np.nanmin(wide, axis=axis),
        "max": np.nanmax(wide, axis=axis),
        "mean": np.nanmean(wide, axis=axis),
        "std": np.nanstd(wide, axis=axis),
    }


def assert_equal(found: Statistics, expected, *, rtol=1e-12):
    for name, values in found.arrays().items():
        # The floor of the deviation is the rounding of the oracle's own mean.
        floor = 1e-18 * float(np.max(np.abs(expected["max"]))) if name == "std" else 0
        np.testing.assert_allclose(values, expected[name].astype(float), rtol=rtol, atol=floor, err_msg=name)


def normal(shape, *, mean=0.0, dtype="float64", missing=0.0):
    generator = np.random.default_rng(7)
    values = (generator.normal(size=shape) + mean).astype(dtype)
    if missing:
        values[generator.random(shape) < missing] = np.nan
    return values


@pytest.mark.parametrize("over", ["element", "channel", "all"])
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(normal((3000, 4, 3), dtype="float32"), id="float32"),
        pytest.param(normal((3000, 4, 3), missing=0.3), id="missing"),
        pytest.param(normal((3000, 4, 3), mean=1e6, dtype="float32"), id="float32 of mean 1e6"),
        pytest.param(normal((3000, 4, 3), mean=1.7e9), id="float64 of mean 1.7e9"),
        pytest.param(normal((40000, 1)), id="many rows of one value"),
        pytest.param(normal((2, 4, 40000), dtype="float32"), id="few wide rows"),
        pytest.param(np.random.default_rng(1).integers(0, 256, (500, 4, 3), dtype=np.uint8), id="uint8"),
        pytest.param(np.random.default_rng(1).integers(-(2**15), 2**15, (500, 4, 3), dtype=np.int16), id="int16"),
        pytest.param(np.random.default_rng(1).integers(0, 2**16, (500, 4, 3), dtype=np.uint16), id="uint16"),
        pytest.param(np.random.default_rng(1).integers(-(2**40), 2**40, (500, 4, 3)), id="int64"),
        pytest.param(np.random.default_rng(1).integers(0, 2, (500, 4, 3)).astype(bool), id="bool"),
        pytest.param(np.full((70000, 2), 65535, np.uint16), id="the greatest sums of squares"),
    ],
)
def test_statistics_are_those_of_numpy(values, over):
    assert_equal(describe(values, over, pieces=5), oracle(values, over))


def test_the_huge_mean_of_float32_costs_no_digits():
    values = normal((200_000, 2), mean=1e6, dtype="float32")
    wide = values.astype(np.longdouble)
    found = describe(values, pieces=13)
    np.testing.assert_allclose(found.mean, wide.mean(axis=0).astype(float), rtol=1e-15)
    np.testing.assert_allclose(found.std**2, wide.var(axis=0).astype(float), rtol=1e-9)


@pytest.mark.parametrize("value", [3.3, 0.1, -1e300, 1e-310, 0.0, 1e6 + 1 / 3])
def test_a_constant_has_exactly_its_mean_and_no_deviation(value):
    for dtype in ("float32", "float64"):
        if abs(value) > float(np.finfo(dtype).max):
            continue
        column = np.full((1001, 1), value).astype(dtype)
        found = describe(column, pieces=7)
        assert found.mean == column[0]
        assert found.std == 0


def test_nearly_constant_values_keep_their_deviation():
    values = np.full(100_001, 1.7e9)
    values[5] = np.nextafter(1.7e9, 2e9)
    step = values[5] - 1.7e9
    expected = step * np.sqrt(len(values) - 1) / len(values)
    np.testing.assert_allclose(describe(values, pieces=3).std, expected, rtol=1e-12)


def test_a_column_without_a_value_has_none_and_spoils_no_other():
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    found = describe(values, pieces=2)
    assert found.count.tolist() == [2, 0]
    assert found.missing.tolist() == [0, 2]
    assert found.mean[0] == 2
    assert np.isnan([found.mean[1], found.std[1], found.min[1], found.max[1]]).all()


def test_no_rows_add_nothing():
    values = normal((50, 3), missing=0.2)
    nothing = moments(values[:0], "element")
    for whole in (merge(nothing, moments(values, "element")), merge(moments(values, "element"), nothing)):
        assert_equal(summarize(whole), oracle(values))


@pytest.mark.parametrize("rows", [2**10, 2**12, 3 * 2**8])
def test_exact_halves_are_rounded_alike_whatever_the_order(rows):
    """Sums of integers over a power of two lie on the boundary between two float64 more often than chance has it."""
    generator = np.random.default_rng(rows)
    values = generator.integers(0, 2**16, (rows, 200)).astype(np.uint16)
    found = []
    for cuts in ([100, 300], [7, 500, 501, 700], [rows // 2]):
        blocks = [moments(block, "element") for block in np.split(values, cuts)]
        found += [summarize(functools.reduce(merge, order)) for order in (blocks, blocks[::-1])]
    for name in ("mean", "std"):
        assert len({one.arrays()[name].tobytes() for one in found}) == 1, name
    exact = [rows * rows * (rows * sum(x * x for x in c) - sum(c) ** 2) for c in values.T.tolist()]
    expected = np.sqrt([float(Fraction(total, rows**4)) for total in exact])
    np.testing.assert_array_equal(found[0].std, expected)


def test_minus_zero_and_zero_are_one_minimum():
    a, b = (moments(np.array([[x], [x]]), "element") for x in (-0.0, 0.0))
    for merged in (merge(a, b), merge(b, a)):
        assert not np.signbit([merged.low, merged.high]).any()


@pytest.mark.parametrize(
    ("over", "kept", "shape", "broadcast"),
    [
        ("element", (0, 1, 2), (4, 5, 3), (4, 5, 3)),
        ("channel", (2,), (3,), (1, 1, 3)),
        ("all", (), (), (1, 1, 1)),
        ((0,), (0,), (4,), (4, 1, 1)),
        ((-1, 0), (0, 2), (4, 3), (4, 1, 3)),
        ((), (), (), (1, 1, 1)),
    ],
)
def test_what_shares_a_statistic(over, kept, shape, broadcast):
    row = (4, 5, 3)
    assert statistics_axes(over, row) == kept
    assert statistics_shape(over, row) == shape
    assert broadcast_shape(over, row) == broadcast
    found = moments(np.ones((2, *row)), over)
    assert found.count.shape == shape
    assert (found.count == 2 * 60 // int(np.prod(shape))).all()


@pytest.mark.parametrize(
    ("over", "shape"), [((3,), (4, 5, 3)), ((-4,), (4, 5, 3)), ((0, -3), (4, 5, 3)), ("channel", ())]
)
def test_axes_that_do_not_exist_or_are_named_twice_are_refused(over, shape):
    with pytest.raises(ValueError, match="over: expected"):
        statistics_axes(over, shape)


@pytest.mark.parametrize("constant", [0.0, -3.5, 1e6])
def test_statistics_after_imputing_a_constant(constant):
    values = normal((5000, 3), mean=2.0, missing=0.3)
    imputed = SimpleImputer(strategy="constant", fill_value=constant).fit_transform(values)
    assert_equal(impute(describe(values), constant), oracle(imputed), rtol=1e-10)


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_statistics_after_imputing_a_value_of_each_column(strategy):
    values = normal((5000, 3), mean=2.0, missing=0.3)
    imputer = SimpleImputer(strategy=strategy).fit(values)
    assert_equal(impute(describe(values), imputer.statistics_), oracle(imputer.transform(values)), rtol=1e-10)


def test_imputing_the_mean_keeps_it():
    found = describe(normal((5000, 3), mean=2.0, missing=0.3))
    np.testing.assert_array_equal(impute(found, found.mean).mean, found.mean)


def test_imputing_broadcasts_and_leaves_what_misses_nothing():
    values = normal((50, 4, 3))
    values[:5, 2] = np.nan
    found, before = impute(describe(values), np.array([[1.0], [2.0], [9.0], [3.0]])), describe(values)
    assert_equal(found, oracle(np.where(np.isnan(values), 9.0, values)))
    for name, array in before.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name][[0, 1, 3]], array[[0, 1, 3]], err_msg=name)


def test_imputing_where_nothing_is_known():
    found = impute(describe(np.full((4, 1), np.nan)), 2.5)
    assert [found.count, found.mean, found.min, found.max, found.std] == [4, 2.5, 2.5, 2.5, 0]
    assert np.isnan(impute(describe(np.full((4, 1), np.nan)), np.nan).mean)


def test_imputing_tiny_and_huge_values_keeps_the_deviation():
    for scale in (1e-250, 1e140):
        values = normal((500, 1), missing=0.3) * scale
        filled = np.where(np.isnan(values), scale, values)
        np.testing.assert_allclose(impute(describe(values), scale).std / scale, (filled / scale).std(), rtol=1e-12)
