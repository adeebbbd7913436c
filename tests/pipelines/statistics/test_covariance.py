"""Covariance against NumPy and scikit-learn, with missing values and without."""

import functools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA

from pipelines.statistics.covariance import Covariance, nearest_psd, principal_components
from tests.support.estimating import run

R = np.random.default_rng(0)
MIXED = R.standard_normal((6000, 5)) @ R.standard_normal((5, 5))


def with_missing(values, fraction=0.2):
    return np.where(np.random.default_rng(1).random(values.shape) < fraction, np.nan, values)


CASES = {
    "float64": MIXED,
    "float32": MIXED.astype("float32"),
    "float32 of mean 1e6": (MIXED + 1e6).astype("float32"),
    "float64 of mean 1.7e9": MIXED + 1.7e9,
    "missing": with_missing(MIXED),
    "missing, of mean 1e6": with_missing((MIXED + 1e6).astype("float32")),
    "columns of different sizes": MIXED * [1e-150, 1e-3, 1, 1e60, 1e120],
    "values of different sizes": MIXED * 10.0 ** R.integers(-40, 0, (6000, 1)),
    "uint8": R.integers(0, 256, (6000, 5), dtype=np.uint8),
    "int32": R.integers(-(2**31), 2**31, (6000, 5), dtype=np.int32),
    "bool": MIXED > 0,
    "single row": MIXED[:1],
    "constant": np.full((30, 5), 0.1),
}


def find(values, pieces=3):
    return run(Covariance(width=values.shape[-1]), np.array_split(values, pieces))


def state_of(values):
    estimator = Covariance(width=values.shape[-1])
    return estimator.update(estimator.start(), estimator.accumulate(estimator.start(), values))


def pairwise(values):
    """The covariance of each pair over the rows where both are present, about their means there, in long double."""
    wide, width = values.astype(np.longdouble), values.shape[1]
    result = np.full((width, width), np.nan)
    for i in range(width):
        for j in range(width):
            both = wide[~np.isnan(wide[:, i]) & ~np.isnan(wide[:, j])][:, [i, j]]
            if len(both):
                a, b = (both - both.mean(axis=0)).T
                result[i, j] = float((a * b).mean())
    return result


@pytest.mark.parametrize("name", CASES)
def test_mean_and_pairwise_covariance(name):
    values = CASES[name]
    found, present = find(values), (~np.isnan(values.astype(float))).astype(int)
    np.testing.assert_array_equal(found["count"], present.T @ present)
    np.testing.assert_allclose(
        found["mean"], np.nanmean(values.astype(np.longdouble), axis=0).astype(float), rtol=1e-15
    )
    expected = pairwise(values)
    scale = np.sqrt(np.diagonal(expected))  # an entry is as exact as the deviations of its columns
    np.testing.assert_array_less(np.abs(found["covariance"] - expected), 1e-12 * np.outer(scale, scale) + 1e-300)


def test_entries_are_the_float64_nearest_to_the_exact_ones():
    values = with_missing(MIXED[:200] + 1e6)
    found = find(values)["covariance"]
    for i, j in [(0, 0), (0, 3), (4, 1)]:
        both = [(Fraction(a), Fraction(b)) for a, b in values[:, [i, j]].tolist() if a == a and b == b]
        n, product = len(both), sum(a * b for a, b in both)
        assert found[i, j] == float((n * product - sum(a for a, _ in both) * sum(b for _, b in both)) / n**2)


@pytest.mark.parametrize("name", CASES)
def test_no_cut_and_no_order_changes_a_bit(name):
    values, estimator = CASES[name], Covariance(width=5)
    whole = estimator.result(state_of(values))
    for seed in range(3):
        generator = np.random.default_rng(seed)
        units = np.split(values, np.sort(generator.integers(0, len(values) + 1, 9)))
        units = [estimator.accumulate(estimator.start(), units[i]) for i in generator.permutation(len(units))]
        found = estimator.result(functools.reduce(estimator.merge, units))
        for key, array in whole.items():
            assert array.tobytes() == found[key].tobytes(), key


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.floats(allow_infinity=False)),
    st.integers(0, 12),
)
def test_any_floats_are_added_exactly(values, cut):
    estimator = Covariance(width=2)
    found = estimator.merge(*(estimator.accumulate(estimator.start(), part) for part in (values[:cut], values[cut:])))
    integers, scale = found.product.integers()
    for i, j in [(0, 0), (0, 1), (1, 1)]:
        expected = sum(Fraction(a) * Fraction(b) for a, b in values[:, [i, j]].tolist() if a == a and b == b)
        assert int(integers[i, j]) * Fraction(2) ** scale == expected


def test_columns_never_present_together_have_no_covariance():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, 2.0]])
    found = find(values)
    np.testing.assert_array_equal(found["covariance"], [[1, np.nan], [np.nan, 0]])
    np.testing.assert_array_equal(found["mean"], [2, 2])
    assert np.isnan(find(values[:0], 1)["mean"]).all()


def test_leading_axes_are_observations():
    np.testing.assert_array_equal(find(MIXED.reshape(60, 10, 10, 5))["covariance"], find(MIXED)["covariance"])


def test_infinities_are_refused():
    with pytest.raises(ValueError, match="found an infinity"):
        find(np.array([[1.0, np.inf]]), 1)


def test_the_nearest_covariance_is_positive_definite():
    indefinite = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    found = nearest_psd(indefinite)
    assert np.linalg.eigvalsh(indefinite)[0] < -0.1
    assert np.linalg.eigvalsh(found)[0] > 0
    values, vectors = np.linalg.eigh(indefinite)
    np.testing.assert_allclose(found, (vectors * np.maximum(values, 0)) @ vectors.T, atol=1e-10)
    proper = np.cov(MIXED.T)
    np.testing.assert_array_equal(nearest_psd(proper), proper)


def test_principal_components_are_those_of_scikit_learn():
    values = (R.standard_normal((3000, 8)) * [9, 7, 5, 4, 3, 2, 1, 0.5]) @ np.linalg.qr(R.standard_normal((8, 8)))[0]
    found = find(values)
    for k in (1, 4, 8):
        fitted = PCA(n_components=k, svd_solver="full").fit(values)
        components, variances = principal_components(found["covariance"], k, rows=len(values))
        np.testing.assert_allclose(components, fitted.components_, atol=1e-6)
        np.testing.assert_allclose(variances, fitted.explained_variance_, rtol=1e-9)
    _, population = principal_components(found["covariance"], 8)
    np.testing.assert_allclose(population * 3000 / 2999, variances, rtol=1e-14)


@pytest.mark.parametrize(("k", "rows"), [(0, None), (6, None), (2, 1)])
def test_components_that_do_not_exist_are_refused(k, rows):
    with pytest.raises(ValueError, match="principal components: expected"):
        principal_components(np.eye(5), k, rows=rows)
