"""Imputation against scikit-learn and NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # makes the import that follows possible
from sklearn.impute import IterativeImputer, SimpleImputer

from pipelines.errors import DataError
from tests.support import examples
from tests.support.fitting import columns, fitted, transform

IMPUTERS = {
    "mean": SimpleImputer(),
    "median": SimpleImputer(strategy="median"),
    "most_frequent": SimpleImputer(strategy="most_frequent"),
    "zero": SimpleImputer(strategy="constant", fill_value=0.0),
}


def run(x, impute, **said):
    return transform({"x": x}, {"x": {"impute": impute, "normalize": "none", **said}})["x"]


NUMBERS = st.integers(-5, 5).map(float) | st.floats(-1e6, 1e6, width=32) | st.just(np.nan)
COLUMNS = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=NUMBERS).filter(
    lambda x: (~np.isnan(x)).any(axis=0).all()
)


@settings(max_examples=examples(30), deadline=None)
@given(COLUMNS, st.sampled_from(sorted(IMPUTERS)))
def test_imputation_is_that_of_scikit_learn(x, method):
    expected = IMPUTERS[method].fit_transform(x.astype(np.float64))
    np.testing.assert_allclose(run(x, method, dtype="float64"), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["missing", "missing64", "half", "huge mean64", "tiny", "one row"])
@pytest.mark.parametrize("method", [*IMPUTERS, "min", "max"])
def test_imputation_of_hard_columns(name, method):
    x = columns()[name]
    if len(x) > 1:
        x[::3, 1] = np.nan
    wide = x.astype(np.float64)
    if method in ("min", "max"):
        fill = (np.nanmin if method == "min" else np.nanmax)(wide, axis=0)
        expected = np.where(np.isnan(wide), fill, wide)
    else:
        expected = IMPUTERS[method].fit_transform(wide)
    np.testing.assert_allclose(run(x, method, dtype="float64"), expected, rtol=1e-12, atol=0)


def test_a_constant_fills_even_what_has_no_value():
    x = np.full((4, 2), np.nan, np.float32)
    np.testing.assert_array_equal(run(x, {"constant": -7.5}), np.full((4, 2), -7.5, np.float32))
    np.testing.assert_array_equal(run(x, "zero"), np.zeros((4, 2), np.float32))
    found = transform({"x": x}, {"x": {"impute": "zero", "normalize": "zscore"}})["x"]
    np.testing.assert_array_equal(found, np.zeros((4, 2), np.float32))


@pytest.mark.parametrize("method", ["mean", "median", "most_frequent", "min", "max", "regression"])
def test_an_element_without_a_value_is_named(method):
    x = np.array([[1.0, np.nan], [2.0, np.nan]])
    with pytest.raises(DataError, match=r"feature x, element \[1\]: expected a value in the training rows; found none"):
        run(x, method)
    y = np.zeros((3, 2, 4))
    y[:, :, 2] = np.nan
    with pytest.raises(DataError, match=r"feature x, over \[1\] \[2\]: expected a value"):
        run(y, "mean", over=[1])


@pytest.mark.parametrize("steps", ["zscore", "robust", {"quantile": "normal"}, "gaussian", {"buckets": 3}])
def test_steps_name_an_element_without_a_value(steps):
    x = np.array([[1.0, np.nan], [2.0, np.nan]])
    with pytest.raises(DataError, match=r"feature x, element \[1\]: expected a value in the training rows; found none"):
        transform({"x": x}, {"x": {"normalize": steps}})


def test_no_rows_are_named():
    for said in ({}, {"impute": "median"}, {"normalize": "robust"}, {"impute": "regression"}):
        with pytest.raises(DataError, match="feature x: expected training rows; found none"):
            transform({"x": np.zeros((0, 3))}, {"x": said}, units=1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("method", ["mean", "median", {"constant": 0.1}])
def test_what_is_there_stays_as_it_is_bit_for_bit(dtype, method):
    info = np.finfo(dtype)
    hard = [-0.0, 0.0, info.smallest_subnormal, -3 * info.smallest_subnormal, info.tiny, info.eps, 0.1, -info.max]
    x = np.array([*hard, np.nan], dtype)[:, None]
    found = run(x, method)
    assert found.dtype == dtype
    assert found[:-1].tobytes() == x[:-1].tobytes()
    assert np.isfinite(found[-1])


@pytest.mark.parametrize("method", ["min", "max", "zero", "most_frequent", {"constant": 3}])
@pytest.mark.parametrize(("dtype", "sentinel"), [("uint8", 255), ("int16", -9999), ("int64", -(2**63)), ("uint16", 9)])
def test_integers_filled_by_integers_stay_integers(dtype, sentinel, method):
    random = np.random.default_rng(5)
    x = random.integers(0, 9, (50, 3)).astype(dtype)
    absent = random.random(x.shape) < 0.3
    x[absent] = sentinel
    present = np.where(absent, np.nan, x.astype(np.float64))
    fill = {
        "min": np.nanmin(present, axis=0),
        "max": np.nanmax(present, axis=0),
        "zero": np.zeros(3),
        "most_frequent": SimpleImputer(strategy="most_frequent").fit(present).statistics_,
    }.get(str(method), np.full(3, 3.0))
    found = run(x, method, missing=sentinel)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.where(absent, fill.astype(dtype), x))


def test_large_integers_lose_no_bit():
    x = np.array([2**60 + 1, -1, 2**60 + 3, 2**60 + 1])
    found = run(x, {"constant": 5}, missing=-1)
    np.testing.assert_array_equal(found, [2**60 + 1, 5, 2**60 + 3, 2**60 + 1])
    ranks = run(x, {"constant": 5}, missing=-1, normalize="vocabulary")
    np.testing.assert_array_equal(ranks, [0, 1, 2, 0])


def test_integers_filled_by_other_numbers_become_floats():
    x = np.array([[1], [2], [255], [6]], np.uint8)
    for method, fill in (("mean", 3.0), ("median", 2.0), ({"constant": -1}, -1.0), ({"constant": 0.5}, 0.5)):
        found = run(x, method, missing=255)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array([[1], [2], [fill], [6]], np.float32))
    found = run(x, {"constant": -1}, missing=255, dtype="int32")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [[1], [2], [-1], [6]])
    assert run(x, "zero", missing=255, dtype="float64").dtype == np.float64


def test_declared_infinities_and_numbers_are_missing():
    x = np.array([[1.0], [np.inf], [-np.inf], [np.nan], [-9999.9], [4.0]], np.float32)
    expected = [[1.0], [2.5], [2.5], [2.5], [2.5], [4.0]]
    np.testing.assert_array_equal(run(x, "mean", missing=[np.inf, -np.inf, -9999.9]), expected)
    kept = run(x, "none", missing=[np.inf, -np.inf, -9999.9])
    np.testing.assert_array_equal(kept, [[1.0], [np.nan], [np.nan], [np.nan], [np.nan], [4.0]])


@pytest.mark.parametrize("kind", ["same shape", "one a row", "integers"])
def test_a_mask_says_what_is_missing(kind):
    random = np.random.default_rng(6)
    x = random.normal(size=(60, 4))
    mask = random.random((60,) if kind == "one a row" else x.shape) < 0.3
    absent = mask[:, None] | np.zeros(x.shape, bool) if kind == "one a row" else mask
    expected = SimpleImputer().fit_transform(np.where(absent, np.nan, x))
    x[absent] = np.inf  # what a mask hides may be anything
    mask = (3 * mask).astype(np.int16) if kind == "integers" else mask
    said = {"x": {"mask": "m", "normalize": "none", "indicator": True}, "m": {"normalize": "none"}}
    found = transform({"x": x, "m": mask}, said)
    np.testing.assert_allclose(found["x"], expected, rtol=1e-12)
    np.testing.assert_array_equal(found["x_missing"], absent)
    np.testing.assert_array_equal(found["m"], mask)


@pytest.mark.parametrize("impute", ["mean", "none", "zero", "regression"])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_an_indicator_tells_what_was_missing(dtype, impute):
    random = np.random.default_rng(7)
    x = random.integers(0, 50, (80, 2)).astype(dtype)
    absent = random.random(x.shape) < 0.2
    x[absent] = -9999
    said = {"impute": impute, "normalize": "none", "missing": -9999, "indicator": True}
    found = transform({"x": x}, {"x": said})
    assert found["x_missing"].dtype == np.bool_
    np.testing.assert_array_equal(found["x_missing"], absent)
    np.testing.assert_array_equal(found["x"][~absent], x[~absent])
    if impute == "none" and dtype == "int16":
        np.testing.assert_array_equal(found["x"], x)


@pytest.mark.parametrize("method", ["mean", "min", "max"])
@pytest.mark.parametrize("normalize", ["none", "zscore"])
def test_the_values_of_a_group_fill_its_rows(method, normalize):
    random = np.random.default_rng(8)
    x, group = random.normal(size=(90, 3)), random.integers(-2, 3, 90)
    x[random.random(x.shape) < 0.2] = np.nan
    x[group == 2, 1] = np.nan
    statistic = {"mean": np.nanmean, "min": np.nanmin, "max": np.nanmax}[method]
    overall, expected = statistic(x, axis=0), np.empty_like(x)
    for key in range(-2, 3):
        rows = x[group == key]
        fill = [overall[j] if np.isnan(rows[:, j]).all() else statistic(rows[:, j]) for j in range(3)]
        expected[group == key] = np.where(np.isnan(rows), fill, rows)
    said = {"x": {"impute": method, "normalize": normalize, "by": "g", "dtype": "float64"}}
    apply = fitted({"x": x, "g": group}, said)
    found = apply({"x": x, "g": group})["x"]
    if normalize == "none":
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        unseen = apply({"x": x, "g": np.full(90, 10**12)})["x"]
        np.testing.assert_allclose(unseen, np.where(np.isnan(x), overall, x), rtol=1e-12)
    else:
        whole = np.isfinite(x[group == 0]).any(axis=0)
        rows = expected[group == 0][:, whole]
        np.testing.assert_allclose(found[group == 0][:, whole], (rows - rows.mean(0)) / rows.std(0), atol=1e-9)


def correlated(rows, width, seed):
    random = np.random.default_rng(seed)
    mix = random.normal(size=(width, width)) + np.ones((width, width))
    x = random.normal(size=(rows, width)) @ mix.T * np.logspace(-3, 3, width) + np.arange(width)
    holes = np.where(random.random(x.shape) < 0.2, np.nan, x)
    return x, holes


def conditional_mean(x, training=None, shrink=0.0):
    """The formula itself, with the covariance of each pair of elements over the rows that have both."""
    given = x if training is None else training
    mean, width = np.nanmean(given, axis=0), x.shape[1]
    covariance, noise = np.empty((width, width)), np.zeros(width)
    most = (~np.isnan(given)).sum(axis=0).max()
    for i in range(width):
        for j in range(width):
            both = ~np.isnan(given[:, i]) & ~np.isnan(given[:, j])
            covariance[i, j] = np.mean(given[both, i] * given[both, j]) - given[both, i].mean() * given[both, j].mean()
            noise[i] += 2 * (1 / both.sum() - 1 / most)
    covariance += np.diag(np.diag(covariance) * shrink * np.sqrt(noise))
    result = x.copy()
    for row in result:
        missing = np.isnan(row)
        known = np.linalg.solve(covariance[np.ix_(~missing, ~missing)], row[~missing] - mean[~missing])
        row[missing] = mean[missing] + covariance[np.ix_(missing, ~missing)] @ known
    return result


def test_regression_is_the_conditional_mean():
    truth, x = correlated(400, 5, 9)
    found = transform({"x": truth}, {"x": {"impute": "regression", "normalize": "none"}}, new={"x": x})["x"]
    np.testing.assert_allclose(found, conditional_mean(x, truth), rtol=1e-5, atol=1e-9)
    shaped = {"x": truth[:, :4].reshape(-1, 2, 2)}, {"x": x[:, :4].reshape(-1, 2, 2)}
    found = transform(shaped[0], {"x": {"impute": "regression", "normalize": "none"}}, new=shaped[1])["x"]
    np.testing.assert_allclose(found.reshape(-1, 4), conditional_mean(x[:, :4], truth[:, :4]), rtol=1e-5, atol=1e-9)


def test_regression_learns_from_rows_with_missing_values():
    _, x = correlated(400, 5, 9)
    expected = conditional_mean(x, shrink=0.3)
    np.testing.assert_allclose(run(x, "regression"), expected, rtol=1e-5, atol=1e-9)


def autoregressive(rows, width, seed):
    random, place = np.random.default_rng(seed), np.arange(width)
    mix = np.linalg.cholesky(0.9 ** np.abs(place[:, None] - place))
    x = random.normal(size=(rows, width)) @ mix.T
    return x, np.where(random.random(x.shape) < 0.2, np.nan, x)


def factors(rows, width, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)) @ random.normal(size=(2, width)) + 0.3 * random.normal(size=(rows, width))
    return x, np.where(random.random(x.shape) < 0.2, np.nan, x)


KINDS = {"correlated": correlated, "autoregressive": autoregressive, "factors": factors}


@pytest.mark.filterwarnings("ignore:.*Early stopping criterion")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_regression_is_as_near_to_the_truth_as_that_of_scikit_learn(width, kind):
    truth, x = KINDS[kind](2000, width, width)
    missing, spread = np.isnan(x), truth.std(axis=0)

    def error(found):
        return float(np.sqrt(np.mean((((found - truth) / spread)[missing]) ** 2)))

    ours = error(run(x, "regression", dtype="float64"))
    theirs = error(IterativeImputer(max_iter=30, random_state=0).fit_transform(x))
    assert ours <= 1.1 * theirs
    assert ours <= 0.8 * error(SimpleImputer().fit_transform(x))


def test_regression_of_rows_without_any_value_is_the_mean():
    _, x = correlated(300, 3, 11)
    x[5] = np.nan
    found = run(x, "regression", dtype="float64")
    np.testing.assert_allclose(found[5], np.nanmean(x, axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found[~np.isnan(x)], x[~np.isnan(x)])


def test_regression_survives_constant_and_equal_elements():
    random = np.random.default_rng(12)
    base = random.normal(size=200)
    x = np.stack([base, 2 * base, np.full(200, 7.0)], axis=1)
    holes = x.copy()
    holes[::7, 1] = np.nan
    holes[::5, 2] = np.nan
    found = run(holes, "regression", dtype="float64")
    np.testing.assert_allclose(found[:, 2], 7.0, atol=1e-12)
    assert np.sqrt(np.mean((found[::7, 1] - x[::7, 1]) ** 2)) < 0.1 * x[:, 1].std()


def test_statistics_after_regression_are_those_of_what_it_made():
    _, x = correlated(400, 3, 13)
    made = conditional_mean(x, shrink=0.3)
    found = run(x, "regression", normalize="zscore", dtype="float64")
    np.testing.assert_allclose(found, (made - made.mean(0)) / made.std(0), atol=1e-4)
