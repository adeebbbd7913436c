"""Statistics of groups: those of each group's rows alone."""

import functools
import pickle
import tracemalloc

import numpy as np
import pytest

from pipelines.statistics import groups
from pipelines.statistics.groups import GroupMoments
from pipelines.statistics.summary import moments, summarize

R = np.random.default_rng(0)


def find(values, keys, over="element", *, cuts=(), order=None):
    estimator = GroupMoments(shape=values.shape[1:], over=over)
    units = list(zip(np.split(values, cuts), np.split(keys, cuts), strict=True))
    accumulators = [estimator.accumulate(estimator.start(), units[i]) for i in order or range(len(units))]
    state = estimator.update(estimator.start(), functools.reduce(estimator.merge, accumulators))
    return estimator.result(state)


def assert_grouped(found, values, keys, over="element"):
    np.testing.assert_array_equal(found["keys"], np.unique(keys))
    for i, key in enumerate(found["keys"]):
        for name, array in summarize(moments(values[keys == key], over)).arrays().items():
            np.testing.assert_array_equal(found[name][i], array, err_msg=name)


def with_missing(values):
    return np.where(R.random(values.shape) < 0.3, np.nan, values)


@pytest.mark.parametrize(
    "values",
    [
        R.standard_normal((3000, 3)),
        (R.standard_normal((3000, 3)) + 1e6).astype("float32"),
        with_missing(R.standard_normal((3000, 3)) + 1.7e9),
        R.standard_normal((3000, 3)) * 10.0 ** R.integers(-160, 150, (3000, 3)),
        R.integers(0, 256, (3000, 3), dtype=np.uint8),
        R.integers(-(2**63), 2**63 - 1, (3000, 3)),
        R.integers(0, 2**64 - 1, (3000, 3), dtype=np.uint64),
        R.random((3000, 3)) < 0.5,
        R.standard_normal(3000),
    ],
    ids=["float64", "float32 1e6", "missing", "sizes", "uint8", "int64", "uint64", "bool", "scalar"],
)
def test_a_group_has_the_statistics_of_its_rows(values):
    keys = R.integers(-4, 5, len(values)) * 10**17
    assert_grouped(find(values, keys), values, keys)
    assert_grouped(find(values, keys, cuts=[1, 700, 700, 2999], order=[3, 0, 4, 1, 2]), values, keys)


@pytest.mark.parametrize("over", ["channel", "all", (0,)])
def test_any_axes_can_share_a_statistic_within_a_group(over):
    values, keys = with_missing(R.standard_normal((200, 4, 3))), R.integers(0, 7, 200)
    assert_grouped(find(values, keys, over, cuts=[90]), values, keys, over)


def test_groups_longer_than_a_segment_and_a_chunk(monkeypatch):
    values, keys = R.standard_normal((20_000, 2)), np.repeat([3, 1, 2], [12_000, 1, 7_999])
    assert_grouped(find(values, keys), values, keys)
    monkeypatch.setattr(groups, "CHUNK_ELEMENTS", 4096)
    assert_grouped(find(values, keys), values, keys)


def test_many_small_groups():
    values, keys = R.standard_normal((30_000, 2)).astype("float32"), R.permutation(30_000) // 3
    found = find(values, keys, cuts=[10_000])
    order = np.argsort(keys, kind="stable")
    wide = values[order].reshape(10_000, 3, 2).astype(np.float64)
    np.testing.assert_allclose(found["mean"], wide.mean(axis=1), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(found["std"], wide.std(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(found["max"], wide.max(axis=1))


def test_units_without_rows_and_no_rows_at_all():
    values, keys = R.standard_normal((50, 2)), R.integers(0, 3, 50)
    assert_grouped(find(values, keys, cuts=[0, 0, 50]), values, keys)
    nothing = find(values[:0], keys[:0])
    assert nothing["keys"].shape == (0,)
    assert nothing["mean"].shape == (0, 2)


def test_groups_travel_and_go_on():
    values, keys, estimator = R.standard_normal((50, 2)), R.integers(0, 9, 50), GroupMoments(shape=(2,), over="element")
    state = estimator.start()
    for part in (slice(0, 20), slice(20, 50)):
        state = estimator.update(state, estimator.accumulate(state, (values[part], keys[part])))
        state = pickle.loads(pickle.dumps(state))
    assert_grouped(estimator.result(state), values, keys)


def test_too_many_groups_are_refused(monkeypatch):
    monkeypatch.setattr(groups, "GROUPS", 9)
    values, keys = R.standard_normal((10, 1)), np.arange(10)
    for cuts in ([], [5]):
        with pytest.raises(ValueError, match="expected at most 9 groups; found 10 or more"):
            find(values, keys, cuts=cuts)
    assert len(find(values[1:], keys[1:])["keys"]) == 9


def nbytes(one):
    arrays = [one.keys, *one.moments.to_arrays().values()]
    return sum(array.nbytes for array in arrays)


def test_many_groups_are_merged_in_little_more_memory_than_they_take():
    estimator, values = GroupMoments(shape=(), over="all"), R.standard_normal(150_000).astype("float32")
    found = [estimator.accumulate(estimator.start(), (values, R.permutation(150_000) + shift)) for shift in (0, 9)]
    estimator.result(found[0])
    tracemalloc.start()
    merged = estimator.merge(*found)
    merging = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    estimator.result(merged)
    rounding = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    assert merging < 2.5 * nbytes(merged)
    assert rounding < nbytes(merged)
