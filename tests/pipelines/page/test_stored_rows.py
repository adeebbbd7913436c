"""What was learned, as the page shows it: exact quantiles, and the transform of sampled rows."""

import numpy as np
import pytest

from loaders.format.spec import FeatureSpec
from loaders.transform.forward import Forward
from pipelines.page.stored_rows import _made, exact_quantiles
from pipelines.reading.batches import Ragged
from pipelines.statistics.summary import moments, summarize

ROWS = np.random.default_rng(0).normal(size=(500, 3))
WHOLE = summarize(moments(ROWS, "element"))
HOLES = summarize(moments(np.where(ROWS > 1, np.nan, ROWS), "element"))


@pytest.mark.parametrize(
    ("said", "constants", "expected"),
    [
        ({"impute": "median", "normalize": "zscore"}, {"impute/fill": 3}, {50: 3}),
        ({"impute": "mean", "normalize": ["robust"]}, {"impute/fill": 3, "0/shift": 4, "0/divisor": 1}, {50: 4}),
        ({"normalize": {"clip": [0.05, 0.95]}}, {"0/low": 1, "0/high": 2}, {5: 1, 95: 2}),
        ({"normalize": [{"buckets": 4}]}, {"0/boundaries": [1, 2, 3]}, {25: 1, 50: 2, 75: 3}),
        ({"normalize": ["log1p", "robust"]}, {"1/shift": 4, "1/divisor": 1}, {}),
        ({"normalize": {"buckets": [0, 18]}}, {"0/boundaries": [0, 18]}, {}),
        ({"normalize": "robust", "by": "site"}, {"0/shift": 4, "0/divisor": 1}, {}),
        ({}, {}, {}),
    ],
)
def test_a_first_step_has_learned_exact_quantiles(said, constants, expected):
    fitted = {f"x/{key}": np.multiply.outer(value, np.ones(3)) for key, value in constants.items()}
    found = exact_quantiles("x", said, fitted, WHOLE)
    assert {at: values.tolist() for at, values in found.items()} == {at: [value] * 3 for at, value in expected.items()}


def test_what_was_learned_of_filled_values_is_no_quantile_of_those_that_were_there():
    fitted = {"x/impute/fill": np.zeros(3), "x/0/shift": np.ones(3), "x/0/divisor": np.ones(3)}
    assert exact_quantiles("x", {"impute": "mean", "normalize": "robust"}, fitted, HOLES) == {}
    assert list(exact_quantiles("x", {"impute": "median", "normalize": "robust"}, fitted, HOLES)) == [50]


def test_each_step_of_rows_of_different_lengths_is_transformed():
    spec = FeatureSpec(name="x", dtype="float32", shape=(None, 2))
    config = {"features": {"x": {"impute": "mean", "normalize": "zscore"}}}
    constants = {"impute/fill": [5.0, 6.0], "0/shift": [1.0, 2.0], "0/divisor": [2.0, 4.0]}
    fitted = {f"x/{key}": np.array(value) for key, value in constants.items()}
    forward = Forward(config, fitted, features=[spec], sources=[spec])
    values = np.array([[1, 2], [3, np.nan], [np.nan, 10]], np.float32)
    found = _made(forward, "x", {"x": Ragged(values=values, lengths=np.array([1, 0, 2]))})
    assert found.lengths.tolist() == [1, 0, 2]
    np.testing.assert_array_equal(found.values, [[0, 0], [1, 1], [2, 2]])
