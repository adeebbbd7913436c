"""Frequencies against NumPy and scikit-learn."""

import collections
import tracemalloc

import numpy as np
import pytest
from sklearn.impute import SimpleImputer

from pipelines.statistics import frequencies
from pipelines.statistics.frequencies import Frequencies, most_frequent, ranked
from tests.support.estimating import run

R = np.random.default_rng(0)


def find(values, over="element", pieces=4, **options):
    return run(Frequencies(shape=values.shape[1:], over=over, **options), np.array_split(values, pieces))


@pytest.mark.parametrize(
    "values",
    [
        R.integers(-5, 5, (300, 3)),
        R.integers(0, 255, (300, 3), dtype=np.uint8),
        R.random((300, 3)) < 0.5,
        R.integers(0, 9, (300, 3)).astype("float32") / 4,
        np.where(R.random((300, 3)) < 0.3, np.nan, R.integers(0, 9, (300, 3))),
        R.choice(np.array(["a", "bb", "ü", ""]), (300, 3)),
        R.choice(np.array([b"a", b"bb", b"\xff"]), (300, 3)),
    ],
    ids=["int64", "uint8", "bool", "float32", "missing", "unicode", "bytes"],
)
def test_counts_are_those_of_numpy(values):
    found = find(values)
    assert found["values"].dtype == values.dtype
    for i, column in enumerate(values.T):
        expected, counts = np.unique(
            column if column.dtype.kind != "f" else column[~np.isnan(column)], return_counts=True
        )
        used = len(expected)
        np.testing.assert_array_equal(found["values"][i, :used], expected)
        np.testing.assert_array_equal(found["counts"][i], np.pad(counts, (0, found["counts"].shape[1] - used)))


@pytest.mark.parametrize(("over", "shape"), [("all", ()), ("channel", (3,)), ((0,), (2,))])
def test_any_axes_can_share_counts(over, shape):
    values = R.integers(0, 4, (50, 2, 3))
    found = find(values, over)
    assert found["counts"].shape == (*shape, 4)
    assert (found["counts"].sum(axis=-1) == 300 // int(np.prod(shape))).all()


def test_the_most_frequent_value_is_that_of_scikit_learn():
    values = np.where(R.random((40, 30)) < 0.3, np.nan, R.integers(0, 6, (40, 30)) / 2)  # with ties
    imputer = SimpleImputer(strategy="most_frequent").fit(values)
    np.testing.assert_array_equal(most_frequent(find(values)), imputer.statistics_)


def test_the_most_frequent_value_of_nothing():
    values = np.array([[1.0, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(most_frequent(find(values, pieces=1)), [1, np.nan])
    np.testing.assert_array_equal(most_frequent(find(values[:, 1:], pieces=1)), [np.nan])
    with pytest.raises(ValueError, match="found none"):
        most_frequent(find(np.zeros((0, 2), np.int64), pieces=1))


def test_a_vocabulary_is_ordered_by_count_then_value():
    words = np.array(["b", "c", "a", "c", "b", "d"])
    values, counts = ranked(find(words, "all"))
    expected = sorted(collections.Counter(words.tolist()).items(), key=lambda item: (-item[1], item[0]))
    assert list(zip(values.tolist(), counts.tolist(), strict=True)) == expected


def test_units_of_longer_and_shorter_strings():
    found = run(Frequencies(shape=(), over="all"), [np.array(["long one"]), np.array(["a"]), np.array([], "U2")])
    assert found["values"].tolist() == ["a", "long one"]


def test_minus_zero_is_zero():
    found = run(Frequencies(shape=(), over="all"), [np.array([-0.0, 0.0]), np.array([-0.0])])
    assert (found["values"].tolist(), found["counts"].tolist()) == ([0.0], [3])
    assert not np.signbit(found["values"]).any()


def test_more_values_than_the_limit_are_refused():
    values = np.arange(10)[:, None]
    assert find(values, limit=10)["counts"].sum() == 10
    for pieces in (1, 5):  # in one unit, and only when they are merged
        with pytest.raises(ValueError, match="expected at most 9 distinct values; found 10 or more"):
            find(values, limit=9, pieces=pieces)


def test_many_statistics_are_merged_in_little_more_memory_than_they_take(monkeypatch):
    monkeypatch.setattr(frequencies, "MERGED_AT_ONCE", 5000)
    values = R.integers(0, 1500, (2000, 100))
    estimator = Frequencies(shape=(100,), over="element")
    halves = [estimator.accumulate(estimator.start(), half) for half in np.array_split(values, 2)]
    estimator.merge(*halves)  # NumPy imports some of itself
    tracemalloc.start()
    merged = estimator.merge(*halves)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = estimator.accumulate(estimator.start(), values)
    for name, array in vars(merged).items():
        np.testing.assert_array_equal(array, getattr(whole, name))
    assert peak < 2 * sum(array.nbytes for array in vars(merged).values())
