"""Estimators: passes in one process, and what every estimator must be."""

import dataclasses
import functools
import pickle

import numpy as np
import pytest

from pipelines.statistics.covariance import Covariance
from pipelines.statistics.estimators import add_counts
from pipelines.statistics.frequencies import Frequencies
from pipelines.statistics.quantiles import Quantiles
from tests.support.estimating import run

R = np.random.default_rng(0)
VALUES = np.where(R.random((500, 2, 3)) < 0.1, np.nan, R.integers(-9, 9, (500, 2, 3)) / 4)
ESTIMATORS = [
    Quantiles(probabilities=(0.1, 0.5, 1.0), dtype="float64", shape=(2, 3), over="channel"),
    Covariance(width=3),
    Frequencies(shape=(2, 3), over="element"),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_any_cut_any_order_and_units_without_rows_give_the_same_bits(estimator):
    whole = run(estimator, [VALUES])
    for seed in range(5):
        generator = np.random.default_rng(seed)
        units = np.split(VALUES, np.sort(generator.integers(0, 501, 7)))
        found = run(estimator, [VALUES[:0], *(units[i] for i in generator.permutation(len(units)))])
        assert found.keys() == whole.keys()
        for name, array in whole.items():
            assert array.tobytes() == found[name].tobytes(), name
            assert array.shape == found[name].shape


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_estimators_states_and_accumulators_travel(estimator):
    assert hash(pickle.loads(pickle.dumps(estimator))) == hash(estimator)
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimator.passes = 3
    state = estimator.start()
    for _ in range(estimator.passes):
        units = [pickle.loads(pickle.dumps(estimator.accumulate(state, unit))) for unit in (VALUES[:9], VALUES[9:])]
        state = pickle.loads(pickle.dumps(estimator.update(state, functools.reduce(estimator.merge, units))))
    for name, array in run(estimator, [VALUES]).items():
        np.testing.assert_array_equal(estimator.result(state)[name], array)


@pytest.mark.parametrize("estimator", ESTIMATORS[1:], ids=lambda one: type(one).__name__)
def test_a_state_goes_on_where_rows_are_added(estimator):
    state = estimator.start()
    for unit in (VALUES[:77], VALUES[77:]):
        state = pickle.loads(pickle.dumps(estimator.update(state, estimator.accumulate(state, unit))))
    for name, array in run(estimator, [VALUES]).items():
        np.testing.assert_array_equal(estimator.result(state)[name], array)


def test_counts_of_equal_codes_are_added():
    codes, counts = add_counts(np.array([2, 5, 1, 5]), np.array([1, 2, 3, 4]))
    assert codes.tolist() == [1, 2, 5]
    assert counts.tolist() == [3, 1, 6]
    assert [array.tolist() for array in add_counts(np.zeros(0, np.int64), np.zeros(0, np.int64))] == [[], []]
