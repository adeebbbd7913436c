"""Principal components against scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from pipelines.errors import DataError
from tests.support.fitting import columns, fitted, transform


def sample(rows=400, width=6):
    random = np.random.default_rng(0)
    return random.normal(size=(rows, width)) @ random.normal(size=(width, width)) + 10


def like(components, expected):
    """Components with the signs of others."""
    return components * np.sign(np.sum(components * expected, axis=0))


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("whiten", [False, True])
def test_components_are_those_of_scikit_learn(count, whiten):
    x = sample()
    theirs = PCA(count, whiten=whiten, svd_solver="full").fit(x)
    apply = fitted({"x": x}, {"x": {"normalize": {"whiten" if whiten else "pca": count}, "dtype": "float64"}})
    for values in (x, x[:50] * 1.5 - 3):
        found, expected = apply({"x": values})["x"], theirs.transform(values)
        assert found.shape == (len(values), count)
        np.testing.assert_allclose(like(found, expected), expected, atol=1e-8)


def test_every_vector_along_the_last_axis_counts():
    x = sample(600).reshape(50, 3, 4, 6)
    found = transform({"x": x}, {"x": {"normalize": {"pca": 2}, "dtype": "float64"}})["x"]
    expected = PCA(2, svd_solver="full").fit_transform(x.reshape(-1, 6))
    np.testing.assert_allclose(like(found.reshape(-1, 2), expected), expected, atol=1e-8)
    assert found.shape == (50, 3, 4, 2)


@pytest.mark.parametrize("name", ["huge mean", "huge mean64", "uint8", "int16"])
def test_components_of_hard_columns(name):
    x = columns()[name]
    centred = x.astype(np.float64) - x[:1].astype(np.float64)
    expected = PCA(3, svd_solver="full").fit_transform(centred)
    found = transform({"x": x}, {"x": {"normalize": {"pca": 3}, "dtype": "float64"}})["x"]
    np.testing.assert_allclose(like(found, expected), expected, atol=1e-6 * np.abs(expected).max())


def test_components_after_other_steps():
    x = sample()
    expected = PCA(2, svd_solver="full").fit_transform(StandardScaler().fit_transform(x))
    found = transform({"x": x}, {"x": {"normalize": ["zscore", {"pca": 2}], "dtype": "float64"}})["x"]
    np.testing.assert_allclose(like(found, expected), expected, atol=1e-8)
    scaled = transform({"x": x}, {"x": {"normalize": [{"pca": 2}, "zscore"], "dtype": "float64"}})["x"]
    expected = StandardScaler().fit_transform(PCA(2, svd_solver="full").fit_transform(x))
    np.testing.assert_allclose(like(scaled, expected), expected, atol=1e-8)


def test_a_constant_has_no_component():
    x = np.full((20, 3), 3.3)
    for step in ({"pca": 2}, {"whiten": 2}):
        np.testing.assert_array_equal(transform({"x": x}, {"x": {"normalize": step}})["x"], np.zeros((20, 2)))
    np.testing.assert_array_equal(transform({"x": x[:1]}, {"x": {"normalize": {"whiten": 3}}})["x"], np.zeros((1, 3)))


def test_missing_values_are_named():
    x = sample()
    x[3, 2] = np.nan
    with pytest.raises(
        DataError, match="feature x: pca: expected no missing value; found 1, which `impute` would fill"
    ):
        transform({"x": x}, {"x": {"impute": "none", "normalize": {"pca": 2}}})
    with pytest.raises(DataError, match="feature x: expected training rows; found none"):
        transform({"x": x[:0]}, {"x": {"normalize": {"pca": 2}}}, units=1)
