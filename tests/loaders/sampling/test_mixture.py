"""Several loaders as one: shares, states, hosts."""

import contextlib
import itertools
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loaders as loaders_
from loaders.numpy import Loader, ShardOptions
from loaders.order.state import StateError
from loaders.reading.columns import concatenate_batches
from loaders.sampling import mixture as mixture_module
from loaders.sampling.mixture import Mixture, Schedule, next_source
from loaders.tensorflow import keras
from tests.support.batches import arrays, assert_same, assert_same_batch
from tests.support.numbered import numbers, small_chunks, write_numbered
from tests.support.training import Stop, StoppedError, model_of


@pytest.fixture
def roots(tmp_path, monkeypatch):
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    write_numbered(tmp_path / "a", [20, 0, 30, 3], rows_per_record=4)
    write_numbered(tmp_path / "b", [11], rows_per_record=2)
    return tmp_path / "a", tmp_path / "b"


def make(roots, weights=None, sizes=(6, 2), **options):
    options = {"epochs": None, "remainder": "drop", "seed": 3} | options
    loaders = [Loader(root, "train", batch_size=size, **options) for root, size in zip(roots, sizes, strict=True)]
    return Mixture(loaders, weights=weights)


def take(batches, count):
    return list(itertools.islice(batches, count))


def test_every_batch_has_its_rows_of_each(roots):
    parts = [
        Loader(root, "train", batch_size=size, epochs=None, remainder="drop", seed=3)
        for root, size in zip(roots, (6, 2), strict=True)
    ]
    expected = take(zip(*parts, strict=True), 30)

    for batch, (first, second) in zip(take(make(roots), 30), expected, strict=True):
        assert numbers([batch]) == numbers([first, second])
        assert batch["x"].shape == (8, 2)
    (inputs, labels) = next(iter(make(roots, as_supervised=True)))
    np.testing.assert_array_equal(inputs, np.concatenate([part["x"] for part in expected[0]]))
    np.testing.assert_array_equal(labels, np.concatenate([part["n"] for part in expected[0]]))


def test_every_batch_is_of_one_by_weight(roots):
    batches = take(make(roots, weights=[3, 1]), 40)

    sizes = [len(batch["n"]) for batch in batches]
    assert sizes[:8] == [6, 6, 2, 6, 6, 6, 2, 6]
    assert (sizes.count(6), sizes.count(2)) == (30, 10)
    for root, size in zip(roots, (6, 2), strict=True):
        alone = Loader(root, "train", batch_size=size, epochs=None, remainder="drop", seed=3)
        own = [batch for batch in batches if len(batch["n"]) == size]
        assert_same(own, take(alone, len(own)))


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), steps=st.integers(1, 300))
def test_shares_are_kept_to_within_the_number_of_sources(weights, steps):
    batches, weights = [0] * len(weights), np.array(weights)
    for _ in range(steps):
        batches[next_source(batches, weights)] += 1
        expected = sum(batches) * weights / weights.sum()
        assert np.abs(np.array(batches) - expected).max() < max(1.0001, len(weights))


@pytest.mark.parametrize("weights", [None, [2.5, 1], {0: [1, 0], 5: [1, 3], 21: [2, 1]}])
def test_a_state_at_every_step(roots, weights):
    whole = take(make(roots, weights), 40)
    mixture = make(roots, weights)
    states = [mixture.state_dict(), *(mixture.state_dict() for _ in itertools.islice(mixture, 30))]
    for step, saved in enumerate(states):
        saved = json.loads(json.dumps(saved))
        assert len(json.dumps(saved)) < 1000
        restored = make(roots, weights)
        restored.load_state_dict(saved)
        assert restored.state_dict() == saved
        assert_same(take(restored, 40 - step), whole[step:])


CHANGING = {0: [1, 0], 5: [1, 3], 21: [0.5, 0.25]}


def test_weights_may_change(roots):
    sources = [len(batch["n"]) == 2 for batch in take(make(roots, weights=CHANGING), 60)]
    given = np.cumsum(sources)

    assert not any(sources[:5])
    shares = np.cumsum([0] * 5 + [0.75] * 16 + [1 / 3] * 39)
    assert np.abs(given - shares).max() <= 1
    assert sources == [len(batch["n"]) == 2 for batch in take(make(roots, weights={20: [1, 3]} | CHANGING), 60)]


@given(
    pieces=st.lists(
        st.tuples(st.integers(1, 40), st.lists(st.floats(0, 10), min_size=4, max_size=4).filter(any)), min_size=1
    )
)
def test_changing_shares_are_kept_to_within_the_number_of_sources(pieces):
    starts = np.cumsum([0, *(length for length, _ in pieces)]).tolist()
    schedule, counts = Schedule(dict(zip(starts, (weights for _, weights in pieces), strict=False))), [0] * 4
    for step in range(starts[-1]):
        source = next_source(counts, schedule)
        counts[source] += 1
        assert pieces[np.searchsorted(starts, step, side="right") - 1][1][source] > 0
        assert schedule.due(step + 1).sum() == pytest.approx(step + 1)
    assert (np.abs(schedule.due(starts[-1]) - counts) < 4 * len(pieces)).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weights that change begin with batch 0; found {}"),
        ({5: [1, 2]}, "weights that change begin with batch 0; found"),
        ({0: [1, 2], 5: [1]}, "weights that change are as many from each batch on; found"),
        ({0: [0, 0]}, "weights that change are at least 0, and of each list one is above it; found"),
        ({0: [-1, 2]}, "weights that change are at least 0"),
        ({0: [1, 2, 3]}, "weights is a number above 0 for each of 2 loaders; found"),
    ],
)
def test_changing_weights_that_are_none(roots, weights, message):
    with pytest.raises(ValueError, match=message):
        make(roots, weights=weights)


def test_an_iteration_goes_on_with_the_next_batch(roots):
    whole = take(make(roots, [1, 1]), 20)
    mixture = make(roots, [1, 1])

    first = take(mixture, 7)
    copy = pickle.loads(pickle.dumps(mixture))

    assert_same(first + take(mixture, 6), whole[:13])
    assert_same(take(copy, 13), whole[7:])
    old, new = iter(mixture), iter(mixture)
    assert_same_batch(next(old), whole[13])
    assert_same_batch(next(new), whole[13])
    next(old)
    assert mixture.state_dict()["batches"] == [7, 7]


def test_hosts_agree(roots):
    for weights in (None, [1, 2], CHANGING):
        alone = take(make(roots, weights, streams=2), 20)
        shares = [take(make(roots, weights, streams=2, shard=ShardOptions(index=i, count=2)), 20) for i in range(2)]
        for whole, *parts in zip(alone, *shares, strict=True):
            assert sorted(numbers(parts)) == sorted(numbers([whole]))


def test_errors(roots, tmp_path):
    ended = Loader(roots[0], "train", batch_size=1)
    endless = Loader(roots[0], "train", batch_size=1, epochs=None)
    with pytest.raises(ValueError, match="a mixture is of loaders with epochs=None; found epochs None, 1"):
        Mixture([endless, ended])
    with pytest.raises(ValueError, match="a mixture is of loaders"):
        Mixture([])
    for weights in ([1], [1, 0], [1, -1], [1, float("nan")]):
        with pytest.raises(ValueError, match="weights is a number above 0 for each of 2 loaders; found"):
            Mixture([endless, endless], weights=weights)
    saved = make(roots).state_dict()
    for wrong in (
        {},
        None,
        saved | {"version": 1},
        saved | {"loaders": saved["loaders"][:8]},
        saved | {"batches": [0, 0]},
    ):
        with pytest.raises(StateError, match="expected the state of a mixture"):
            make(roots).load_state_dict(wrong)
    with pytest.raises(StateError, match=r"loader 0: expected the state of train of data set [0-9a-f]{32} in"):
        make(roots[::-1]).load_state_dict(saved)
    with pytest.raises(ValueError, match="expects the same features of all loaders; found a, b; a"):
        concatenate_batches([{"a": np.zeros(1), "b": np.zeros(1)}, {"a": np.zeros(1)}], np.concatenate)
    with pytest.raises(ValueError, match=r"rows of one dtype and shape; found float64 of shape \[2\]; float64"):
        concatenate_batches([{"a": np.zeros((1, 2))}, {"a": np.zeros((1, 3))}], np.concatenate)
    write_numbered(tmp_path / "empty", [0], rows_per_record=2)
    assert list(make((roots[0], tmp_path / "empty"))) == []


def test_the_state_of_many_loaders_is_small(roots):
    loaders = [Loader(roots[0], "train", batch_size=1, epochs=None, seed=seed) for seed in range(24)]
    mixture = Mixture(loaders, weights=range(1, 25))
    saved = mixture.state_dict()
    saved |= {"places": [[10**4, 10**8]] * 24, "batches": [10**6] * 24}

    mixture.load_state_dict(saved)

    assert mixture.state_dict() == saved
    assert len(json.dumps(saved)) < 1000
    assert [loader.state_dict()["rows"] for loader in loaders] == [10**8] * 24


# Of tensors.


def tensors(roots, weights=None, **options):
    common = {"epochs": None, "remainder": "drop", "seed": 3}
    loaders = [
        loaders_.Loader(root, "train", batch_size=size, **(common | options))
        for root, size in zip(roots, (6, 2), strict=True)
    ]
    return Mixture(loaders, weights=weights)


@pytest.mark.parametrize("weights", [None, [2.5, 1], {0: [1, 0], 5: [1, 3], 21: [2, 1]}])
def test_mixtures_of_tensors_are_those_of_arrays(roots, weights):
    mixture, other = tensors(roots, weights), make(roots, weights)
    assert_same(arrays(take(mixture, 25)), take(other, 25))
    assert mixture.state_dict() == other.state_dict()

    expected, saved = take(other, 20), mixture.state_dict()
    dataset = mixture.dataset()
    assert not dataset.options().autotune.enabled
    assert_same(arrays(dataset.take(9)), expected[:9])
    mixture.advance(9)
    assert_same(arrays(mixture.dataset().take(11)), expected[9:])
    assert_same(arrays(take(mixture, 11)), expected[9:])
    restored = tensors(roots, weights)
    restored.load_state_dict(json.loads(json.dumps(saved)))
    assert_same(arrays(restored.dataset().take(20)), expected)
    other.load_state_dict(saved)
    other.advance(9)
    assert_same(take(other, 11), expected[9:])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_mixture_in_keras(roots, tmp_path):
    def fit(mixture, *callbacks, steps=7, epochs=3):
        model = model_of()
        model.fit(mixture.dataset(), epochs=epochs, steps_per_epoch=steps, callbacks=list(callbacks), verbose=0)
        return model.get_weights()

    # Keras begins the epoch anew that was broken off, with as many steps as any; the batches go on.
    whole = fit(tensors(roots, [1, 2], as_supervised=True), steps=11 + 7 + 7, epochs=1)
    found = None
    for stop in (11, 0):
        mixture = tensors(roots, [1, 2], as_supervised=True)
        backup = keras.BackupAndRestore(tmp_path / "backup", save_freq=1)
        callbacks = [keras.KerasState(mixture, tmp_path / "state.json"), backup]
        with pytest.raises(StoppedError) if stop else contextlib.nullcontext():
            found = fit(mixture, *callbacks, *([Stop(stop)] if stop else []))

    for first, second in zip(found, whole, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_next_one_is_chosen_in_one_place(roots, monkeypatch):
    """Two ways to divide might come to disagree."""
    monkeypatch.setattr(mixture_module, "next_source", lambda batches, weights: int(sum(batches) % 3 > 0))
    mixture = tensors(roots, [3, 1])
    expected = arrays(take(mixture, 9))

    assert [len(batch["n"]) for batch in expected] == [6, 2, 2] * 3
    assert_same(arrays(tensors(roots, [3, 1]).dataset().take(9)), expected)
