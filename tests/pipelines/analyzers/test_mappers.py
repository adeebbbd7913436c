"""Values changed by what is learned, against scikit-learn, for any rows and any cut of them."""

import math

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import decomposition, impute, preprocessing

from pipelines import analyzers as npa
from pipelines.errors import DataError
from tests.support.eagerly import analyzing

CLOSE = {"rtol": 1e-9, "atol": 1e-9}

NUMBERS = st.one_of(st.sampled_from([0.0, 1.0, 1.0, 5e-324, math.nan]), st.floats(-1e3, 1e3).map(lambda x: round(x, 3)))
CUTS = st.lists(st.integers(0, 9), max_size=3)


def rows(elements=NUMBERS):
    shapes = st.tuples(st.integers(1, 9), st.integers(1, 3))
    return shapes.flatmap(lambda shape: arrays_of.arrays(np.float64, shape, elements=elements))


def complete(x):
    """Rows without columns that have no value at all, which scikit-learn leaves out or refuses."""
    empty = np.isnan(x).all(0)
    return np.where(empty, 1.0, x)


@pytest.mark.parametrize(
    ("mapper", "scaler"),
    [
        (npa.scale_to_z_score, preprocessing.StandardScaler()),
        (npa.scale_to_min_max, preprocessing.MinMaxScaler()),
        (lambda x: npa.scale_to_min_max(x, -1, 2), preprocessing.MinMaxScaler((-1, 2))),
        (npa.scale_by_max_abs, preprocessing.MaxAbsScaler()),
        (npa.scale_robust, preprocessing.RobustScaler()),
        (lambda x: npa.normalize(x, {"minmax": [-1, 2]}), preprocessing.MinMaxScaler((-1, 2))),
    ],
)
@settings(max_examples=40)
@given(x=rows(), cuts=CUTS, seed=st.integers(0, 9))
@example(x=np.array([[7.0, math.nan]]), cuts=[], seed=0)
def test_scaling_is_that_of_scikit_learn(mapper, scaler, x, cuts, seed):
    x = complete(np.where(np.abs(x) < 1e-300, 0.0, x))  # scikit-learn divides by what is nearly 0
    with analyzing(cuts=cuts, seed=seed):
        found = mapper(tf.constant(x)).numpy()
    np.testing.assert_allclose(found, scaler.fit_transform(x), **CLOSE)


@settings(max_examples=40)
@given(x=rows(st.one_of(NUMBERS, st.sampled_from([1e300, -1e300]))), cuts=CUTS)
def test_min_and_max_reach_far(x, cuts):
    with analyzing(cuts=cuts):
        found = npa.scale_to_min_max(tf.constant(x)).numpy()
    assert np.array_equal(np.isnan(found), np.isnan(x))
    assert ((found >= 0) & (found <= 1) | np.isnan(found)).all()


@pytest.mark.parametrize("method", ["mean", "median", "most_frequent"])
@settings(max_examples=40)
@given(x=rows(), cuts=CUTS, seed=st.integers(0, 9))
def test_imputation_is_that_of_scikit_learn(method, x, cuts, seed):
    x = complete(x) + 0.0
    with analyzing(cuts=cuts, seed=seed):
        found = npa.impute(tf.constant(x), method).numpy()
    np.testing.assert_allclose(found, impute.SimpleImputer(strategy=method).fit_transform(x), rtol=1e-9, atol=1e-300)
    np.testing.assert_array_equal(found[~np.isnan(x)], x[~np.isnan(x)])


def test_imputation_by_extremes_and_numbers():
    x = np.array([[1.0, 5.0], [math.nan, 2.0], [3.0, math.nan]])
    with analyzing(cuts=(1,)):
        for method, fills in (("min", [1, 2]), ("max", [3, 5]), ("zero", [0, 0]), (-7.5, [-7.5, -7.5])):
            np.testing.assert_array_equal(npa.impute(tf.constant(x), method), np.where(np.isnan(x), fills, x))
        pooled = npa.impute(tf.constant(x), "max", over="all")
        np.testing.assert_array_equal(pooled, np.where(np.isnan(x), 5, x))


def test_integers_stay_integers_where_what_is_filled_in_is_one():
    x = np.array([2**60 + 1, -1, 7])
    with analyzing():
        for method, expected in (("min", 7), ("max", 2**60), (0, 0), ("most_frequent", 7)):
            found = npa.impute(tf.constant(x), method, missing=-1)
            assert found.dtype == tf.int64
            assert found.numpy().tolist() == [2**60 + 1, expected, 7]  # what is learned is float64
        found = npa.impute(tf.constant([1, -1, 2]), "mean", missing=-1)
        assert found.dtype == tf.float32
        assert found.numpy().tolist() == [1, 1.5, 2]
        assert npa.impute(tf.constant([1, 2]), "mean").dtype == tf.int32  # none is missing


def test_groups_are_scaled_and_filled_by_their_own_rows():
    rng = np.random.default_rng(0)
    x, site = (
        rng.normal(rng.normal(0, 9, (4, 1)).repeat(50, 1).T.ravel()[:, None], 1, (200, 3)),
        np.tile(np.arange(4), 50),
    )
    x[rng.random(x.shape) < 0.2] = math.nan
    with analyzing(cuts=(30, 31)):
        scaled = npa.scale_to_z_score(tf.constant(x), by=tf.constant(site)).numpy()
        filled = npa.impute(tf.constant(x), by=tf.constant(site)).numpy()
    for group in range(4):
        own = x[site == group]
        np.testing.assert_allclose(scaled[site == group], (own - np.nanmean(own, 0)) / np.nanstd(own, 0), **CLOSE)
        np.testing.assert_allclose(filled[site == group], np.where(np.isnan(own), np.nanmean(own, 0), own), **CLOSE)


def test_clipping_and_buckets_follow_exact_quantiles():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    x[::9, 1] = math.nan
    low, high = np.nanquantile(x, [0.05, 0.9], axis=0)
    with analyzing(cuts=(500,)):
        np.testing.assert_array_equal(npa.clip(tf.constant(x), 0.05, 0.9), np.clip(x, low, high))
        found = npa.bucketize(tf.constant(x), 4).numpy()
        given = npa.bucketize(tf.constant(x), [-1.0, 1.0]).numpy()
    assert found.dtype == np.int64
    edges = np.nanquantile(x, [0.25, 0.5, 0.75], axis=0)
    expected = (x[None] >= edges[:, None]).sum(0)
    np.testing.assert_array_equal(found, np.where(np.isnan(x), -1, expected))
    np.testing.assert_array_equal(given, np.where(np.isnan(x), -1, np.digitize(x, [-1, 1])))


@pytest.mark.parametrize("to", ["uniform", "normal"])
def test_the_quantile_transform_is_that_of_scikit_learn(to):
    x = np.random.default_rng(0).normal(size=(2000, 2)) ** 3
    x[::9, 1] = math.nan
    x[:300, 0] = 1.0
    with analyzing(cuts=(500,)):
        found = npa.quantile_transform(tf.constant(x), to).numpy()
    transformer = preprocessing.QuantileTransformer(output_distribution=to, subsample=None)
    np.testing.assert_allclose(found, transformer.fit_transform(x), **CLOSE)


def test_rows_are_scaled_by_themselves_and_long_tails_become_normal():
    x = np.random.default_rng(0).normal(size=(2000, 3)) ** 3
    with analyzing(cuts=(500,)):
        np.testing.assert_allclose(npa.scale_rows(tf.constant(x)), preprocessing.normalize(x), **CLOSE)
        found = npa.scale_to_gaussian(tf.constant(x)).numpy()
    assert (np.mean(found**4, 0) / np.mean(found**2, 0) ** 2 < 3.6).all()  # 3 is normal; of x it is above 30
    np.testing.assert_array_equal(np.argsort(found, 0), np.argsort(x, 0))


def test_a_mask_may_be_of_whole_rows():
    x, mask = tf.constant([[1.0, 2.0], [5.0, 6.0]]), tf.constant([False, True])
    with analyzing():
        assert npa.impute(x, "mean", missing=mask).numpy().tolist() == [[1, 2], [1, 2]]


@pytest.mark.parametrize(("mapper", "whiten"), [(npa.pca, False), (npa.whiten, True)])
def test_principal_components_are_those_of_scikit_learn(mapper, whiten):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5))
    with analyzing(cuts=(100,)):
        found = mapper(tf.constant(x), 3).numpy()
    expected = decomposition.PCA(3, whiten=whiten, svd_solver="full").fit_transform(x)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * signs, rtol=1e-8, atol=1e-8)


def test_a_vocabulary_ranks_strings_and_integers():
    words, numbers = np.array([b"b", b"a", b"b", b"c"], object), np.array([7, 7, 5, 9])
    with analyzing(cuts=(2,)):
        assert npa.vocabulary(tf.constant(words)).numpy().tolist() == [0, 1, 0, 2]
        assert npa.vocabulary(tf.constant(numbers), oov_buckets=0, min_count=2).numpy().tolist() == [0, 0, -1, -1]


def test_the_indicator_needs_nothing_to_be_learned():
    x = tf.constant([[1.0, math.nan], [-9.0, 2.0]])
    assert npa.missing_indicator(x).numpy().tolist() == [[0, 1], [0, 0]]
    assert npa.missing_indicator({"x": x}, missing=-9)["x"].numpy().tolist() == [[0, 1], [1, 0]]
    assert npa.missing_indicator(tf.constant([1, 2])).numpy().tolist() == [0, 0]


@settings(max_examples=30)
@given(x=rows(), cuts=CUTS, seed=st.integers(0, 99))
def test_no_cut_and_no_order_of_merging_changes_a_bit(x, cuts, seed):
    def mapped():
        tensor = tf.constant(x)
        filled = npa.impute({"mean": tensor, "other": -tensor}, "mean", missing=1e9)
        return [
            filled["mean"],
            npa.scale_to_z_score(filled["other"]),
            npa.scale_robust(tensor, over="all"),
            npa.bucketize(tensor, 3),
        ]

    x = complete(x)
    with analyzing():
        whole = mapped()
    with analyzing(cuts=cuts, seed=seed):
        for one, other in zip(whole, mapped(), strict=True):
            assert one.numpy().tobytes() == other.numpy().tobytes()


def test_what_is_given_is_float32_unless_it_was_float64_or_is_said():
    x = np.random.default_rng(0).normal(size=(20, 2))
    for dtype, expected in ((np.float64, tf.float64), (np.float32, tf.float32), (np.float16, tf.float32)):
        with analyzing():
            assert npa.scale_to_z_score(tf.constant(x.astype(dtype))).dtype == expected
            assert npa.scale_to_z_score(tf.constant(x.astype(dtype)), dtype=tf.float64).dtype == tf.float64
    with analyzing():
        assert npa.scale_to_z_score(tf.constant([1, 2])).dtype == tf.float32


def test_any_step_is_said_as_in_a_configuration():
    x = tf.constant([1.0, 2.0, math.nan])
    with analyzing():
        assert npa.normalize(x, {"buckets": [2]}, missing=1).numpy().tolist() == [-1, 1, -1]
        assert npa.normalize(x, {"scale": 0.5}, dtype=tf.float64).numpy().tolist()[:2] == [0.5, 1]
        assert npa.normalize(tf.constant(["b", "a", "b"]), "vocabulary").numpy().tolist() == [0, 1, 0]
        grouped = npa.normalize(x, "maxabs", by=tf.constant([0, 1, 1]))
        assert grouped.numpy().tolist()[:2] == [1, 1]
        assert npa.impute(x, {"constant": 3}).numpy().tolist() == [1, 2, 3]


def test_columns_without_a_value_are_nan_when_scaled_and_an_error_when_filled():
    x = tf.constant([[1.0, math.nan], [2.0, math.nan]])
    with analyzing():
        assert np.isnan(npa.scale_to_z_score(x).numpy()).tolist() == [[False, True]] * 2
        with pytest.raises(
            DataError, match=r"impute of .*: expected a value in the training rows; found none at \[\[1\]\]"
        ):
            npa.impute({"x": x})


@pytest.mark.parametrize("x", [[1e300, -1e300], [1.0, math.inf]])
def test_what_overflows_or_is_infinite_is_an_error(x):
    with analyzing(), pytest.raises(DataError, match="expected finite values whose statistics are within float64"):
        npa.scale_to_z_score({"x": tf.constant(x, tf.float64)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: npa.impute(x, "middle"), "impute: expected mean, .* or a number; found 'middle'"),
        (lambda x: npa.impute(x, "median", by=tf.constant([1, 2, 3])), "expected no `by`.*not for median"),
        (lambda x: npa.pca(x, 9), r"pca \(.*test_mappers\.py, line \d+\): pca: expected a last axis of 9"),
        (lambda x: npa.clip(x, 0.9, 0.1), "expected two probabilities"),
        (lambda x: npa.normalize(x, "robst"), "expected none, zscore, .*; found 'robst'.*robust"),
        (lambda x: npa.bucketize(x, 1), "expected 2 to 1000 buckets"),
        (lambda x: npa.vocabulary(x), "vocabulary .*: expected int64 or string; found float64"),
    ],
)
def test_arguments_that_do_not_fit(call, message):
    with analyzing(), pytest.raises(ValueError, match=message):
        call(tf.constant(np.ones((3, 2))))
