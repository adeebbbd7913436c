"""Samples of rows: which rows, which of their values, and that no cut of the rows changes them."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.order import hashing
from pipelines.statistics import sample
from pipelines.statistics.sample import ROW_VALUES, ROWS, Sample, choose, dump_samples, load_samples

R = np.random.default_rng(0)


def hashes(rows, key=1):
    return hashing.stream(key, np.arange(rows))


def of(values, own, lengths=None, *, total):
    """The sample of a batch, as a unit of rows makes it."""
    rows, chosen = choose(own, of=total)
    if lengths is None:
        found = Sample.of(values, chosen, rows=rows)
        assert_same(Sample.of(values[rows], chosen), found)
        return found
    starts = np.cumsum(lengths) - lengths
    steps = np.concatenate([np.zeros(0, int), *(np.arange(starts[row], starts[row] + lengths[row]) for row in rows)])
    return Sample.of(values[steps], chosen, lengths[rows])


def assert_same(a, b):
    assert dump_samples({"x": a}) == dump_samples({"x": b})


@pytest.mark.parametrize("kind", ["numbers", "long rows", "ragged", "text"])
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_neither_the_cut_of_the_rows_nor_the_order_of_merging_changes_a_sample(kind, data):
    rows = data.draw(st.sampled_from([1, 7, ROWS, 3 * ROWS]))
    lengths = None
    if kind == "numbers":
        values = R.normal(size=(rows, 3)).astype(np.float32)
    elif kind == "long rows":
        values = R.integers(0, 9, (rows, 7, 5))
    elif kind == "text":
        values = np.array(["a" * int(n) for n in R.integers(0, 99, rows)], "S")
    else:
        lengths = R.integers(0, 40, rows)
        values = R.normal(size=(int(lengths.sum()), 2))
    own = hashes(rows)
    whole = of(values, own, lengths, total=rows)
    cuts = np.split(data.draw(st.permutations(range(min(rows, 9)))), [data.draw(st.integers(0, 9))])
    pieces = []
    for number in np.concatenate(cuts):
        some = np.arange(int(number), rows, min(rows, 9))
        if lengths is None:
            pieces.append(of(values[some], own[some], total=rows))
        else:
            starts = np.cumsum(lengths) - lengths
            steps = np.concatenate([np.arange(starts[row], starts[row] + lengths[row]) for row in some])
            pieces.append(of(values[steps.astype(int)], own[some], lengths[some], total=rows))
    assert_same(functools.reduce(Sample.merge, pieces), whole)


def test_it_holds_the_rows_with_the_least_hashes():
    own = hashes(5 * ROWS)
    found = of(np.arange(5 * ROWS), own, total=5 * ROWS)
    np.testing.assert_array_equal(found.values[:, 0], np.argsort(own)[:ROWS])


def test_of_a_long_row_values_from_all_of_it_are_taken():
    values = np.tile(np.arange(1000), (ROWS, 1))
    found = of(values, hashes(ROWS), total=ROWS).values
    assert found.shape == (ROWS, ROW_VALUES)
    assert all(len(set(row)) == ROW_VALUES for row in found.tolist())
    np.testing.assert_allclose(np.quantile(found, [0.25, 0.5, 0.75]), [250, 500, 750], atol=5)
    assert len(np.unique(found)) > 990


def test_what_is_too_long_is_cut_but_known():
    found = of(np.array([b"a" * 300, b"b"]), hashes(2), total=2)
    assert sorted(found.sizes.ravel().tolist()) == [1, 300]
    assert max(map(len, found.values.ravel().tolist())) == sample.TEXT_BYTES


def test_a_sample_is_that_of_more_rows_once_others_are_added():
    own, values = hashes(100_000), R.normal(size=100_000)
    before, after = (of(values[part], own[part], total=50_000) for part in (slice(0, 50_000), slice(50_000, None)))
    whole = of(values, own, total=100_000)
    assert_same(before.below(100_000).merge(after.below(100_000)), whole)


def test_samples_come_back():
    own = hashes(40)
    samples = {
        "a/b": of(R.normal(size=(40, 2)), own, total=40),
        "text": of(np.array([b"x", b"yz"] * 20), own, total=40),
        "ragged": of(np.arange(80), own, np.full(40, 2), total=40),
    }
    data = dump_samples(samples)
    assert dump_samples(load_samples(data)) == data
    assert load_samples(dump_samples({})) == {}
