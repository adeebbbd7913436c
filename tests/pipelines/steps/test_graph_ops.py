"""Operations of the graph: right, for no rows too, and the same whatever else is in the batch."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from loaders.format.step_formulas import by_statistic, sum_last
from pipelines.steps import graph_ops


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_sums_are_near_and_do_not_depend_on_the_batch(size):
    x = np.random.default_rng(size).normal(size=(37, size))
    found = sum_last(tf.constant(x), graph_ops).numpy()
    np.testing.assert_allclose(found[:, 0], [math.fsum(row) for row in x], atol=1e-13 * size)
    for row in range(37):
        np.testing.assert_array_equal(sum_last(tf.constant(x[row : row + 1]), graph_ops).numpy(), found[row : row + 1])


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_find_is_a_search(keys, values):
    keys = sorted(keys)
    values = values + keys[::2]
    places, known = graph_ops.find(tf.constant(values, tf.int64), tf.constant(keys, tf.int64))
    assert known.numpy().tolist() == [value in keys for value in values]
    assert [keys[p] for p, k in zip(places.numpy(), known.numpy(), strict=True) if k] == [
        v for v in values if v in keys
    ]
    assert (places.numpy() < max(len(keys), 1)).all()
    assert (places.numpy() >= 0).all()


@pytest.mark.parametrize("rows", [0, 1, 50])
@pytest.mark.parametrize("strict", [True, False])
def test_counts_of_boundaries_are_those_of_numpy(rows, strict):
    random = np.random.default_rng(rows)
    boundaries, values = (
        np.sort(random.integers(0, 9, (3, 5)), axis=1).astype(float),
        random.integers(0, 9, (3, rows)) / 1.0,
    )
    found = graph_ops.count_below(tf.constant(boundaries), tf.constant(values), strict=strict).numpy()
    expected = [
        np.searchsorted(b, v, side="left" if strict else "right") for b, v in zip(boundaries, values, strict=True)
    ]
    np.testing.assert_array_equal(found, np.reshape(expected, (3, rows)))


@pytest.mark.parametrize("kept", [(), (0,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("rows", [0, 4])
def test_columns_and_back(kept, rows):
    x = tf.constant(np.random.default_rng(0).normal(size=(rows, 2, 3, 5)))
    sizes = [(2, 3, 5)[axis] for axis in kept]
    learned = tf.zeros([7, *(size if axis in kept else 1 for axis, size in enumerate((2, 3, 5)))], tf.float64)
    columns, knots, back = by_statistic(x, learned, graph_ops)
    assert knots.shape == (math.prod(sizes), 7)
    assert columns.shape == (math.prod(sizes), rows * 30 // math.prod(sizes))
    moved = np.moveaxis(x.numpy(), [axis + 1 for axis in kept], range(len(kept)))
    np.testing.assert_array_equal(columns.numpy(), moved.reshape(math.prod(sizes), columns.shape[1]))
    np.testing.assert_array_equal(back(columns).numpy(), x.numpy())


@pytest.mark.parametrize("function", [tf.math.log1p, tf.math.ndtri, tf.math.exp])
def test_functions_do_not_depend_on_the_batch(function):
    x = np.random.default_rng(1).uniform(size=(61, 3))
    found = graph_ops.elementwise(function, tf.constant(x)).numpy()
    assert found.shape == x.shape
    np.testing.assert_allclose(found, function(tf.constant(x)).numpy(), rtol=1e-14)
    for rows in (slice(0, 1), slice(60, 61), slice(7, 30), slice(5, 5)):
        np.testing.assert_array_equal(graph_ops.elementwise(function, tf.constant(x[rows])).numpy(), found[rows])


def test_hashes_of_strings_stay_what_they_are():
    found = graph_ops.hash_strings(tf.constant(["", "a", "ä"])).numpy()
    assert found.tolist() == [1936946117179621456, 3694432073954588132, 707521742561851175]
    assert found.dtype == np.int64
