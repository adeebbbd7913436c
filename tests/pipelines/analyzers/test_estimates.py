"""Statistics as analyzers against NumPy and exact arithmetic, for any rows and any cut of them."""

import math
from fractions import Fraction

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines import analyzers as npa
from pipelines.errors import DataError
from tests.support.eagerly import analyzing

CLOSE = 1e-9

FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 5e-324, -2.5e-310, 1e300, -1e300, math.nan]),
    st.floats(-1e3, 1e3),
    st.floats(allow_infinity=False),
)
CUTS = st.lists(st.integers(0, 9), max_size=3)


def rows(elements=FLOATS, least=1):
    shapes = st.tuples(st.integers(least, 9), st.integers(1, 3))
    return shapes.flatmap(lambda shape: arrays_of.arrays(np.float64, shape, elements=elements))


def exactly(column):
    """Mean and variance of a column's present values, as exact fractions rounded once; NaN of no value."""
    present = [Fraction(float(value)) for value in column[~np.isnan(column)]]
    if not present:
        return math.nan, math.nan
    mean = sum(present) / len(present)
    return _float(mean), _float(sum((value - mean) ** 2 for value in present) / len(present))


def _float(value):
    try:
        return float(value)
    except OverflowError:
        return math.inf


@given(x=rows(least=0), cuts=CUTS, seed=st.integers(0, 9))
@example(x=np.array([[1.0, math.nan]]), cuts=[], seed=0)
@example(x=np.full((5, 2), 0.1), cuts=[2], seed=1)
def test_moments_are_those_of_exact_arithmetic(x, cuts, seed):
    with analyzing(cuts=cuts, seed=seed):
        found = npa.moments(tf.constant(x))
        variance = npa.var(tf.constant(x)).numpy()
    known = ~np.isnan(x)
    np.testing.assert_array_equal(found.count, known.sum(0))
    np.testing.assert_array_equal(found.missing, (~known).sum(0))
    nothing = ~known.any(0)
    np.testing.assert_array_equal(
        found.min, np.where(nothing, np.nan, np.where(known, x, np.inf).min(0, initial=np.inf))
    )
    np.testing.assert_array_equal(
        found.max, np.where(nothing, np.nan, np.where(known, x, -np.inf).max(0, initial=-np.inf))
    )
    for column, mean, std, var in zip(x.T, found.mean.numpy(), found.std.numpy(), variance, strict=True):
        expected_mean, expected_var = exactly(column)
        np.testing.assert_equal(mean, expected_mean)
        np.testing.assert_allclose(var, expected_var, rtol=CLOSE, atol=1e-320)
        if 1e-300 < expected_var < 1e300:
            np.testing.assert_allclose(std, math.sqrt(expected_var), rtol=CLOSE)


def test_the_moments_of_ordinary_rows_are_those_of_numpy():
    x = np.random.default_rng(0).normal(3, 2, (1000, 4, 2)).astype(np.float32)
    x[::7, 1] = np.nan
    wide = x.astype(np.float64)
    with analyzing(cuts=(10, 400)):
        tensor = tf.constant(x)
        for over, axes in (("element", 0), ("channel", (0, 1)), ("all", (0, 1, 2)), ((0,), (0, 2))):
            np.testing.assert_allclose(npa.mean(tensor, over=over), np.nanmean(wide, axes), rtol=CLOSE)
            np.testing.assert_allclose(npa.std(tensor, over=over), np.nanstd(wide, axes), rtol=CLOSE)
            np.testing.assert_allclose(npa.var(tensor, over=over), np.nanvar(wide, axes), rtol=CLOSE)
            np.testing.assert_array_equal(npa.min(tensor, over=over), np.nanmin(wide, axes))
            np.testing.assert_array_equal(npa.max(tensor, over=over), np.nanmax(wide, axes))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint16, np.int64, np.float16, np.float32])
def test_moments_and_quantiles_of_each_dtype(dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype == np.bool_ else 100, (50, 3)).astype(dtype)
    wide = x.astype(np.float64)
    with analyzing(cuts=(20,)):
        np.testing.assert_allclose(npa.mean(tf.constant(x)), wide.mean(0), rtol=CLOSE)
        np.testing.assert_array_equal(
            npa.quantiles(tf.constant(x), [0.25, 0.9]), np.quantile(wide, [0.25, 0.9], axis=0)
        )
        np.testing.assert_array_equal(npa.median(tf.constant(x), over="all"), np.median(wide))


@pytest.mark.slow
@settings(max_examples=50)
@given(x=rows(), cuts=CUTS, keys=st.lists(st.integers(-2, 2), min_size=9, max_size=9))
def test_statistics_of_groups_are_those_of_their_rows(x, cuts, keys):
    keys = np.array(keys[: len(x)], np.int64)
    with analyzing(cuts=cuts):
        found = npa.moments(tf.constant(x), by=tf.constant(keys))
        overall = npa.moments(tf.constant(x))
    for row, key in enumerate(keys):
        with analyzing():
            own = npa.moments(tf.constant(x[keys == key]))
        empty = own.count.numpy() == 0
        for field in ("count", "missing", "min", "max", "mean", "std"):
            expected = np.where(empty, getattr(overall, field), getattr(own, field))
            np.testing.assert_array_equal(getattr(found, field)[row], expected)


def test_groups_may_be_strings():
    x, site = np.arange(6.0), np.array([b"a", b"b", b"a", b"b", b"b", b"c"], object)
    with analyzing(cuts=(4,)):
        found = npa.mean(tf.constant(x), by=tf.constant(site))
    np.testing.assert_array_equal(found, [1, 8 / 3, 1, 8 / 3, 8 / 3, 5])


@given(x=rows(least=0), cuts=CUTS, p=st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_quantiles_are_those_of_numpy(x, cuts, p):
    with analyzing(cuts=cuts):
        found = npa.quantiles(tf.constant(x), p).numpy()
        middle = npa.median(tf.constant(x)).numpy()
    for column, own, center in zip(x.T, found.T, middle, strict=True):
        present = column[~np.isnan(column)]
        with np.errstate(over="ignore", invalid="ignore"):  # the gap of -1e300 and 1.7e308
            expected = np.quantile(present, p) if len(present) else np.full(len(p), np.nan)
            between = np.quantile(present, 0.5) if len(present) else np.nan
        np.testing.assert_array_equal(own, expected)
        np.testing.assert_array_equal(center, between)


@given(x=rows(st.sampled_from([math.nan, -1.0, 0.0, -0.0, 2.5])), cuts=CUTS, seed=st.integers(0, 9))
def test_frequencies_are_counts(x, cuts, seed):
    with analyzing(cuts=cuts, seed=seed):
        values, counts = npa.frequencies(tf.constant(x))
        most = npa.most_frequent(tf.constant(x)).numpy()
    present = x[~np.isnan(x)]
    expected_values, expected_counts = np.unique(present + 0.0, return_counts=True)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(counts, expected_counts)
    for column, own in zip(x.T, most, strict=True):
        distinct, number = np.unique(column[~np.isnan(column)] + 0.0, return_counts=True)
        np.testing.assert_equal(own, distinct[number.argmax()] if len(distinct) else np.nan)


def test_more_distinct_values_than_the_limit_are_an_error_that_names_the_line():
    with (
        analyzing(),
        pytest.raises(DataError, match=r"frequencies \(.*line \d+\): expected at most 3 distinct values; found 4"),
    ):
        npa.frequencies(tf.range(4), limit=3)


@settings(max_examples=50)
@given(x=rows(st.one_of(st.just(math.nan), st.floats(-1e3, 1e3)), least=2), cuts=CUTS)
def test_covariances_are_those_of_numpy(x, cuts):
    with analyzing(cuts=cuts):
        found = npa.covariance(tf.constant(x)).numpy()
    for i in range(x.shape[1]):
        for j in range(x.shape[1]):
            both = ~np.isnan(x[:, i]) & ~np.isnan(x[:, j])
            a, b = x[both, i], x[both, j]
            expected = np.mean((a - a.mean()) * (b - b.mean())) if len(a) else np.nan
            np.testing.assert_allclose(found[i, j], expected, rtol=CLOSE, atol=1e-9)


def test_several_tensors_are_one_analyzer_with_the_results_of_each():
    a, b = np.random.default_rng(0).normal(size=(2, 20, 3))
    with analyzing() as analyze:
        for function in (npa.mean, npa.std, npa.median, npa.most_frequent, npa.covariance):
            alone = [function(tf.constant(a)).numpy(), function(tf.constant(b)).numpy()]
            before = analyze.call_count
            together = function({"a": tf.constant(a), "b": tf.constant(b)})
            passes = analyze.call_count - before
            listed = function([tf.constant(a), tf.constant(b)])
            assert passes == (4 if function is npa.median else 1)
            assert list(together) == ["a", "b"]
            for own, named, numbered in zip(alone, together.values(), listed, strict=True):
                np.testing.assert_array_equal(own, named)
                np.testing.assert_array_equal(own, numbered)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [(None, 0.75), (-1, 2.5), ([-1, 2], 3.0), (np.array([True, False, False, False]), 1 / 3), (0.5, 0.75)],
)
def test_what_is_missing_may_be_said(missing, expected):
    with analyzing(cuts=(1,)):
        absent = tf.constant(missing) if isinstance(missing, np.ndarray) else missing
        assert npa.mean(tf.constant([2, 3, -1, -1]), missing=absent).numpy() == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: npa.mean(tf.sparse.from_dense(x)), "mean: expected a dense tensor .* of known shape"),
        (lambda x: npa.mean([]), "mean: expected a tensor; found none"),
        (lambda x: npa.mean(tf.strings.as_string(x)), "expected numbers; found string"),
        (lambda x: npa.mean(x, over=(2,)), "over: expected axes of a row of shape"),
        (lambda x: npa.mean(x, by=x), "by: expected one integer, bool or string a row"),
        (lambda x: npa.mean(x, missing=tf.constant([1])), "missing: expected bool"),
        (lambda x: npa.quantiles(x, [2.0]), r"expected probabilities in \[0, 1\]"),
    ],
)
def test_arguments_that_do_not_fit(call, message):
    with analyzing(), pytest.raises(ValueError, match=message):
        call(tf.constant(np.ones((3, 2))))
