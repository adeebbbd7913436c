"""The kinds of inputs that scikit-learn tests its own scalers and imputers with, small: the same values come out."""

import warnings

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler

from pipelines.errors import DataError
from tests.support.fitting import fitted

EXACT = {"impute": "none", "dtype": "float64"}


def inputs(rows):
    """Arrays `[rows, columns]` by what is special about them."""
    random = np.random.default_rng(rows)
    normal = random.normal(size=(rows, 4))
    holes = np.where((np.arange(rows)[:, None] + np.arange(4)) % 3 == 1, np.nan, normal)
    few = np.resize([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.5, 0.0, 2.0]], (rows, 3))
    return {
        "normal": normal,
        "one_column": normal[:, :1],
        "large_mean": normal + 1e6,
        "float32": (normal * 100).astype(np.float32),
        "float16": normal.astype(np.float16),
        "int8": random.integers(-128, 128, (rows, 3)).astype(np.int8),
        "int64": random.integers(-(2**40), 2**40, (rows, 3)),
        "ties": few,
        "zero_variance": np.column_stack([np.zeros(rows), np.ones(rows), normal[:, 0]]),
        "nearly_all_zero": np.where(np.arange(rows)[:, None] == 0, normal, 0.0),
        "outlier": np.where(np.arange(rows)[:, None] == rows - 1, 1e4, normal),
        "missing": holes,
        "one_value": np.where(np.arange(rows)[:, None] == rows // 2, normal, np.nan),
        "long_tail": random.standard_cauchy((rows, 2)),
    }


SCALERS = {
    "zscore": ("zscore", StandardScaler()),
    "minmax": ("minmax", MinMaxScaler()),
    "minmax_range": ({"minmax": [-1, 2]}, MinMaxScaler(feature_range=(-1, 2))),
    "maxabs": ("maxabs", MaxAbsScaler()),
    "robust": ("robust", RobustScaler()),
    "quantile": ({"quantile": "uniform"}, QuantileTransformer(subsample=None)),
    "quantile_normal": ({"quantile": "normal"}, QuantileTransformer(subsample=None, output_distribution="normal")),
}


@pytest.mark.parametrize("rows", [2, 30])
@pytest.mark.parametrize("name", SCALERS)
def test_scalers(name, rows):
    step, theirs = SCALERS[name]
    arrays = inputs(rows)
    apply = fitted(arrays, {kind: {"normalize": step, **EXACT} for kind in arrays})
    new = {kind: (array[::-1] * 1.5).astype(array.dtype) for kind, array in arrays.items()}
    for values in (arrays, new):
        found = apply(values)
        for kind, array in arrays.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of fewer rows than quantiles
                expected = theirs.fit(array.astype(np.float64)).transform(values[kind].astype(np.float64))
            np.testing.assert_allclose(found[kind], expected, rtol=1e-9, atol=1e-8, err_msg=kind)


@pytest.mark.parametrize("average", [1e-10, 1.0, 1e10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [10, 1000])
def test_columns_that_are_nearly_constant_have_their_own_deviation(rows, dtype, average):
    """scikit-learn takes a deviation that its own rounding could make for 0; ours is of exact sums."""
    first = np.arange(rows)[:, None] < rows // 2
    near = average * (1 + (2.0**-40 if dtype == np.float64 else 2.0**-20))
    x = np.where(first, average, near).astype(dtype)
    found = fitted({"x": x}, {"x": {"normalize": "zscore", **EXACT}})({"x": x})["x"]
    np.testing.assert_allclose(found, np.where(first, -1.0, 1.0), rtol=1e-3)
    constant = np.full((rows, 1), average, dtype)
    same = fitted({"x": constant}, {"x": {"normalize": "zscore", **EXACT}})({"x": constant})["x"]
    np.testing.assert_array_equal(same, np.zeros((rows, 1)))


@pytest.mark.parametrize("value", [np.log(1e-5), 1e-100, 1e100])
def test_means_of_equal_numbers_are_these_numbers(value):
    for rows in (8, 10, 22):
        x = np.full((rows, 1), value)
        found = fitted({"x": x}, {"x": {"normalize": "zscore", **EXACT}})({"x": x})["x"]
        np.testing.assert_array_equal(found, np.zeros((rows, 1)))


def test_outliers_keep_their_place():
    """Values of another size in one array, as in scikit-learn's test of quantiles with outliers."""
    x = np.random.default_rng(0).normal(size=(1000, 1))
    x[0], x[1] = 1e9, -1e9
    theirs = QuantileTransformer(subsample=None, output_distribution="normal").fit(x)
    apply = fitted({"x": x}, {"x": {"normalize": {"quantile": "normal"}, **EXACT}})
    np.testing.assert_allclose(apply({"x": x})["x"], theirs.transform(x), atol=1e-8)


def test_a_single_row():
    x = np.array([[1.0, -3.0]])
    for step, theirs in (("zscore", StandardScaler()), ("minmax", MinMaxScaler()), ("robust", RobustScaler())):
        apply = fitted({"x": x}, {"x": {"normalize": step, **EXACT}})
        for values in (x, x + 1.5):
            np.testing.assert_allclose(apply({"x": values})["x"], theirs.fit(x).transform(values))
    places = fitted({"x": x}, {"x": {"normalize": {"quantile": "uniform"}, **EXACT}})
    np.testing.assert_array_equal(places({"x": x})["x"], [[0.0, 0.0]])
    # What is above the one value is at the end, as it is where there are two: scikit-learn gives 0 here.
    np.testing.assert_array_equal(places({"x": np.array([[2.0, -4.0]])})["x"], [[1.0, 0.0]])


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
@pytest.mark.parametrize("rows", [3, 10, 11])
def test_imputers(strategy, rows):
    random = np.random.default_rng(rows)
    arrays = {
        "holes": np.where((np.arange(rows)[:, None] + np.arange(5)) % 3 == 1, np.nan, random.normal(size=(rows, 5))),
        "ties": np.where(np.arange(rows)[:, None] == 1, np.nan, random.integers(-2, 3, (rows, 4)).astype(np.float64)),
        "one": np.where(np.arange(rows)[:, None] == 2, [[-3.0, 7.0]], np.nan),
        "none": random.normal(size=(rows, 2)),
    }
    apply = fitted(arrays, {name: {"impute": strategy, "normalize": "none", "dtype": "float64"} for name in arrays})
    new = {name: np.full_like(array, np.nan) for name, array in arrays.items()}
    for values in (arrays, new):
        found = apply(values)
        for name, array in arrays.items():
            expected = SimpleImputer(strategy=strategy).fit(array).transform(values[name])
            np.testing.assert_allclose(found[name], expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
@pytest.mark.parametrize("missing", [-1, 0])
def test_a_number_that_stands_for_what_is_missing(strategy, missing):
    x = np.array([[2.0, -1, 0, 5], [1, 2, -1, 3], [0, 1, 3, -1], [1, 0, 3, 7]])
    theirs = SimpleImputer(strategy=strategy, missing_values=missing).fit(x)
    said = {"impute": strategy, "missing": [missing], "normalize": "none", "dtype": "float64"}
    np.testing.assert_allclose(fitted({"x": x}, {"x": said})({"x": x})["x"], theirs.transform(x))


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_a_column_without_a_value_is_an_error(strategy):
    """scikit-learn leaves such a column out, and the array has fewer columns than was said."""
    with pytest.raises(DataError, match=r"element \[1\]: expected a value in the training rows; found none"):
        fitted({"x": np.array([[1.0, np.nan], [2.0, np.nan]])}, {"x": {"impute": strategy}})
