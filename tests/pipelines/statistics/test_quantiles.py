"""Quantiles against NumPy's, to the last bit."""

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import QuantileTransformer, RobustScaler

from pipelines.statistics import quantiles
from pipelines.statistics.quantiles import Quantiles, sortable, unsortable
from tests.support.estimating import run

PROBABILITIES = (0.0, 0.01, 0.25, 1 / 3, 0.5, 0.75, 0.999, 1.0)
DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def find(values, probabilities=PROBABILITIES, over="element", *, pieces=4):
    estimator = Quantiles(probabilities=probabilities, dtype=values.dtype.name, shape=values.shape[1:], over=over)
    return run(estimator, np.array_split(values, pieces))["quantiles"]


def oracle(values, probabilities=PROBABILITIES, axis=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a column of NaN
        return np.nanquantile(values.astype(np.float64), probabilities, axis=axis)


def integers(dtype, shape=(301, 4)):
    if dtype == "bool":
        return np.random.default_rng(5).random(shape) < 0.4
    bounds = np.iinfo(dtype)
    return np.random.default_rng(5).integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers(dtype):
    values = integers(dtype)
    np.testing.assert_array_equal(find(values), oracle(values))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("mean", [0.0, 1e6, 1.7e9])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_floats(dtype, mean, missing):
    if dtype == "float16" and mean:
        mean = 1000.0
    generator = np.random.default_rng(1)
    values = (generator.standard_normal((500, 3)) + mean).astype(dtype)
    values[generator.random(values.shape) < missing] = np.nan
    np.testing.assert_array_equal(find(values), oracle(values))


@pytest.mark.parametrize("over", ["element", "channel", "all", (0,), (-1, 0)])
def test_any_axes_can_share_quantiles(over):
    values = np.random.default_rng(2).standard_normal((60, 2, 4, 3)).astype("float32")
    axes = {"element": (0,), "channel": (0, 1, 2), "all": None, (0,): (0, 2, 3), (-1, 0): (0, 2)}[over]
    np.testing.assert_array_equal(find(values, over=over), oracle(values, axis=axes))


@settings(deadline=None, max_examples=60)
@given(
    values=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(1, 30), st.integers(1, 3)),
        elements=st.floats(allow_infinity=False, width=32),
    ),
    probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    pieces=st.integers(1, 4),
)
def test_any_floats(values, probabilities, pieces):
    found = find(values, tuple(probabilities), pieces=pieces)
    np.testing.assert_array_equal(found, oracle(values, probabilities))


def test_a_column_without_a_value_has_no_quantiles_and_spoils_no_other():
    values = np.array([[1.0, np.nan, 5.0], [2.0, np.nan, np.nan]])
    np.testing.assert_array_equal(find(values, (0.5,), pieces=2), [[1.5, np.nan, 5.0]])
    assert np.isnan(find(values[:0], pieces=1)).all()


def test_infinities_are_values():
    values = np.array([[-np.inf], [1.0], [2.0], [np.inf], [np.inf]])
    found = find(values, (0.0, 0.2, 0.25, 0.4, 0.5, 0.6, 0.9))
    assert found[:, 0].tolist() == [-np.inf, -np.inf, 1.0, 1.6, 2.0, np.inf, np.inf]
    assert np.isnan(find(np.array([[-np.inf], [np.inf]]), (0.5,), pieces=1)).all()


def test_minus_zero_is_zero():
    values = np.array([[-0.0], [0.0], [-0.0], [-1.0]])
    assert find(values, (0.9,)).tolist() == [[0.0]]
    assert not np.signbit(find(values, (1.0,))).any()


def test_a_thousand_quantiles_of_many_columns():
    values = np.random.default_rng(3).standard_normal((4000, 20)).astype("float32")
    probabilities = tuple(np.linspace(0, 1, 1000).tolist())
    estimator = Quantiles(probabilities=probabilities, dtype="float32", shape=(20,), over="element")
    found = run(estimator, np.array_split(values, 3))["quantiles"]
    np.testing.assert_array_equal(found, oracle(values, probabilities))
    fitted = QuantileTransformer(n_quantiles=1000, subsample=None).fit(values.astype(np.float64))
    np.testing.assert_allclose(found, fitted.quantiles_, rtol=1e-12)


def test_ranks_of_many_columns_are_looked_up_in_little_memory(monkeypatch):
    monkeypatch.setattr(quantiles, "CHUNK_ELEMENTS", 2000)
    values = np.random.default_rng(0).normal(size=(50, 400)).astype("float32")
    probabilities = tuple(np.linspace(0, 1, 300))
    estimator = Quantiles(probabilities=probabilities, dtype="float32", shape=(400,), over="element")
    counts = estimator.accumulate(estimator.start(), values)
    tracemalloc.start()
    state = estimator.update(estimator.start(), counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2 * 400 * 600 * 4
    assert estimator.update(state, estimator.accumulate(state, values)).count.sum() == values.size


def test_the_median_and_range_are_those_of_a_robust_scaler():
    values = np.random.default_rng(3).standard_normal((999, 5))
    low, median, high = find(values, (0.25, 0.5, 0.75))
    fitted = RobustScaler().fit(values)
    np.testing.assert_allclose(median, fitted.center_, rtol=1e-14)
    np.testing.assert_allclose(high - low, fitted.scale_, rtol=1e-14)


@pytest.mark.parametrize("counters", [2**6, 2**10, 2**13])
def test_fewer_counters_take_more_passes_and_give_the_same(monkeypatch, counters):
    values = np.random.default_rng(4).standard_normal((700, 3)).astype("float32")
    estimator = Quantiles(probabilities=(0.1, 0.5), dtype="float32", shape=(3,), over="element")
    few = estimator.passes
    monkeypatch.setattr(quantiles, "COUNTERS", counters)
    assert estimator.passes > few
    state = estimator.start()
    for _ in range(estimator.passes):
        accumulator = estimator.accumulate(state, values)
        assert len(accumulator.codes) <= 2 * counters
        state = estimator.update(state, accumulator)
    np.testing.assert_array_equal(estimator.result(state)["quantiles"], oracle(values, (0.1, 0.5)))


def test_units_are_counted_in_chunks(monkeypatch):
    values = np.random.default_rng(4).standard_normal((700, 3)).astype("float32")
    values[::5, 1] = np.nan
    monkeypatch.setattr(quantiles, "CHUNK_ELEMENTS", 100)
    monkeypatch.setattr(quantiles, "MOST_BITS", 5)
    np.testing.assert_array_equal(find(values, pieces=2), oracle(values))


@pytest.mark.parametrize(
    ("dtype", "width", "passes"),
    [("uint8", 10_000, 1), ("uint16", 100, 1), ("float32", 10, 2), ("float32", 1000, 3), ("float64", 1, 4)],
)
def test_how_many_passes_are_made(dtype, width, passes):
    assert Quantiles(probabilities=(0.5,), dtype=dtype, shape=(width,), over="element").passes == passes


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "float32", "float64"])
def test_sortable_bits_are_ordered_as_the_values(dtype):
    values = np.sort(integers(dtype).ravel()) if dtype in DTYPES else np.geomspace(1e-7, 6e4, 99).astype(dtype)
    values = values if dtype in DTYPES else np.concatenate([-values[::-1], [0], values, [np.inf]]).astype(dtype)
    keys = sortable(values)
    np.testing.assert_array_equal(np.argsort(keys, kind="stable"), np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(unsortable(keys, np.dtype(dtype)), values)


def test_what_is_refused():
    for wrong in ({"probabilities": (1.5,)}, {"probabilities": ()}, {"dtype": "complex64"}, {"over": (7,)}):
        arguments = {"probabilities": (0.5,), "dtype": "float32", "shape": (2,), "over": "all"} | wrong
        with pytest.raises(ValueError, match="expected"):
            Quantiles(**arguments)
