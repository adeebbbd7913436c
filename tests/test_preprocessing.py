"""The constants and the graph against scikit-learn, without a pipeline."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from pipelines.config import DatasetConfig, resolve_feature
from pipelines.errors import DataError
from pipelines.preprocessing import FLOAT64_SUFFIX, pack, packed_size, preprocess
from pipelines.statistics import moments, summarize


def transform(x, **said):
    """What the exported graph makes of an array, with the array's own statistics."""
    config = DatasetConfig.model_validate({"features": {"x": said | {"dtype": "float64"}}})
    feature = resolve_feature("x", x.dtype, x.shape[1:], config)
    packed = pack([feature], {"x": summarize(moments(x, feature.over))})
    assert packed.shape == (packed_size([feature]),)
    (output,) = preprocess({"x": tf.constant(x)}, tf.constant(packed), [feature]).items()
    assert output[0] == "x" + FLOAT64_SUFFIX
    return output[1].numpy().view(np.float64)


NUMBERS = st.floats(-1e6, 1e6, width=32) | st.just(np.nan)
COLUMNS = hnp.arrays(np.float32, st.tuples(st.integers(2, 30), st.integers(1, 4)), elements=NUMBERS).filter(
    lambda x: (~np.isnan(x)).any(axis=0).all()
)


@settings(max_examples=40)
@given(COLUMNS, st.sampled_from(["zscore", "minmax", "none"]), st.sampled_from(["mean", -7.5]))
def test_imputing_and_scaling_are_those_of_scikit_learn(x, normalize, impute):
    wide = x.astype(np.float64)
    said = "mean" if impute == "mean" else {"constant": impute}
    imputer = SimpleImputer() if impute == "mean" else SimpleImputer(strategy="constant", fill_value=impute)
    expected = imputer.fit_transform(wide)
    constant = (expected == expected[0]).all(axis=0)
    scale = np.abs(expected).max()
    if normalize == "zscore":
        # Where scikit-learn calls a nearly constant column constant, ours has its true deviation.
        if (~constant & (expected.std(axis=0) <= 1e-6 * scale)).any():
            return
        expected = StandardScaler().fit_transform(expected)
    elif normalize == "minmax":
        expected = MinMaxScaler().fit_transform(expected)
    found = transform(x, impute=said, normalize=normalize)
    np.testing.assert_allclose(found, expected, atol=1e-9 * (scale if normalize == "none" else 1e3))
    if normalize != "none":
        assert (np.abs(found[:, constant]) < 1e-6).all()


def test_several_features_share_one_vector():
    config = DatasetConfig.model_validate({"features": {"b": {"over": "all", "normalize": "minmax"}}})
    a, b = np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[[0.0], [4.0]], [[2.0], [1.0]]])
    features = [resolve_feature(name, x.dtype, x.shape[1:], config) for name, x in (("a", a), ("b", b))]
    packed = pack(features, {f.name: summarize(moments(x, f.over)) for f, x in zip(features, (a, b), strict=True)})
    found = preprocess({"a": tf.constant(a), "b": tf.constant(b)}, tf.constant(packed), features)
    np.testing.assert_allclose(found["a"], [[-1, -1], [1, 1]])
    np.testing.assert_allclose(found["b"], b / 4)


def test_a_constant_becomes_zero():
    np.testing.assert_array_equal(transform(np.full((9, 1), 3.3, np.float32)), np.zeros((9, 1)))
    np.testing.assert_array_equal(transform(np.full((9, 1), 3.3, np.float32), normalize="minmax"), np.zeros((9, 1)))


def test_scaling_by_a_constant_needs_no_value():
    x = np.full((3, 1), np.nan)
    assert np.isnan(transform(x, impute="none", normalize={"scale": 2})).all()


@pytest.mark.parametrize("normalize", ["zscore", "minmax"])
def test_a_feature_without_a_value_is_named(normalize):
    x = np.array([[1.0, np.nan], [2.0, np.nan]])
    for impute in ("mean", "none"):
        with pytest.raises(DataError, match=r"feature x, element \[1\]: expected a value in the training rows"):
            transform(x, impute=impute, normalize=normalize)
    np.testing.assert_allclose(transform(x, impute={"constant": 5}, normalize=normalize)[:, 1], [0, 0])


def test_values_that_overflow_are_named():
    with pytest.raises(DataError, match="feature x: expected statistics within float64; they overflow"):
        transform(np.array([[1e308], [-1e308], [1e308]]))
