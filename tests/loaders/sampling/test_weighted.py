"""Rows that are drawn by weight: how often each comes, the same whoever reads it."""

import itertools
import json
import math
import pickle

import numpy as np
import pytest
import tensorflow as tf

from loaders.augment import Noise
from loaders.format.manifest import ManifestError
from loaders.order import hashing
from loaders.order.state import StateError
from loaders.sampling.weighted import ShardOptions, WeightedLoader, balanced
from tests.support import ragged, scripts, shards
from tests.support.batches import arrays, assert_same
from tests.support.numbered import numbers, write_numbered


@pytest.fixture
def root(tmp_path):
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=4)
    return tmp_path / "out"


WEIGHTS = np.arange(53) % 7 * 0.5


def take(loader, count):
    return list(itertools.islice(loader, count))


def make(root, split="train", weights=WEIGHTS, batch_size=6, **options):
    return WeightedLoader(root, split, **{"weights": weights, "batch_size": batch_size, "seed": 4} | options)


def test_rows_are_those_of_the_rule(root):
    found = numbers(take(make(root), 40))

    hashes = hashing.stream(hashing.derive(4, 7), np.arange(240)) >> np.uint64(11)
    sums = np.concatenate([[0], np.cumsum(WEIGHTS)])
    for row, h in zip(found, hashes.tolist(), strict=True):
        assert sums[row] <= h / 2**53 * sums[-1] < sums[row + 1]
    assert found[:12] == GOLDEN
    assert numbers(take(make(root, seed=5), 40)) != found


# It never changes without a new format version.
GOLDEN = [3, 10, 43, 11, 15, 26, 6, 40, 39, 33, 4, 6]


def test_rows_come_as_often_as_their_weights_say(root):
    draws = 40_000
    counts = np.bincount(numbers(take(make(root, batch_size=1000), draws // 1000)), minlength=53)
    expected = draws * WEIGHTS / WEIGHTS.sum()

    assert not counts[expected == 0].any()
    held = expected > 0
    # The 99.9 % point of chi-square with 44 degrees.
    assert held.sum() == 45
    assert ((counts - expected)[held] ** 2 / expected[held]).sum() < 78.7


def test_classes_are_balanced(tmp_path):
    labels = np.repeat(np.arange(3, dtype=np.int32), [600, 50, 3])
    rows = {"label": labels, "x": np.arange(653, dtype=np.float32), "y": np.zeros((653, 2), np.int32)}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=10, features=shards.specs(rows))
    weights = balanced(tmp_path / "out", "train", label="label")
    np.testing.assert_allclose(np.bincount(labels, weights), [1, 1, 1])
    loader = WeightedLoader(tmp_path / "out", "train", weights=weights, batch_size=3000)
    batch = next(iter(loader))
    counts = np.bincount(batch["label"])

    assert np.abs(counts - 1000).max() < 4 * math.sqrt(3000 * 2 / 9)
    assert set(batch["x"][batch["label"] == 2]) == {650, 651, 652}
    np.testing.assert_allclose(
        balanced(tmp_path / "out", "train[590:]", label="label"), 1 / np.repeat([10, 50, 3], [10, 50, 3])
    )
    with pytest.raises(ValueError, match=r"y: expected one value a row; found rows of shape \(2,\)"):
        balanced(tmp_path / "out", "train", label="y")
    with pytest.raises(ValueError, match="features is a list of names of label, x, y"):
        balanced(tmp_path / "out", "train", label="z")


def test_a_state_at_every_step_with_other_batches_and_hosts(root):
    whole = numbers(take(make(root), 20))
    loader, seen = make(root, prefetch=3), 0
    for batch in itertools.islice(loader, 15):
        seen += len(batch["n"])
        saved = json.loads(json.dumps(loader.state_dict()))
        assert len(json.dumps(saved)) < 1000
        assert saved["rows"] == seen
        restored = make(root, batch_size=5)
        restored.load_state_dict(saved)
        assert restored.state_dict() == saved
        assert numbers(take(restored, 6)) == whole[seen : seen + 30]
        hosts = [make(root, shard=ShardOptions(index=index, count=3)) for index in range(3)]
        for host in hosts:
            host.load_state_dict(saved)
        assert (
            numbers(itertools.chain(*zip(*(take(host, 5) for host in hosts), strict=True))) == whole[seen : seen + 30]
        )
        assert {host.state_dict()["rows"] for host in hosts} == {seen + 30}
    copy = pickle.loads(pickle.dumps(loader))
    assert numbers(take(loader, 5)) == numbers(take(copy, 5)) == whole[90:]


def test_what_a_batch_has(root, tmp_path):
    (found,) = take(make(root, features=["n"]), 1)
    assert set(found) == {"n"}
    ((inputs, labels),) = take(make(root, as_supervised=True), 1)
    np.testing.assert_array_equal(labels, found["n"])
    np.testing.assert_array_equal(inputs[:, 0], labels.astype(np.float32))
    noise = [Noise(features="x", deviation=1.0)]
    (changed,) = take(make(root, augment=noise, weights=np.eye(53)[7]), 1)
    assert set(numbers([changed])) == {7}
    assert len(set(changed["x"][:, 0])) == 6  # each draw of the row in a way of its own
    assert_same(take(make(root, augment=noise), 3), take(make(root, augment=noise, prefetch=0), 3))
    lengths = ragged.lengths_of(23)
    ragged.write(tmp_path / "ragged", [lengths])
    batches = take(make(tmp_path / "ragged", weights=np.ones(23)), 9)
    assert len(set(ragged.numbers_of(batches, lengths))) > 15
    assert set(numbers(take(make(root, "train[5:9]", weights=[1, 1, 1, 1]), 9))) == {5, 6, 7, 8}


def test_another_data_set_or_draw_is_refused(root):
    saved = make(root).state_dict()
    for name, other in {
        "seed": make(root, seed=5),
        "weights": make(root, weights=WEIGHTS + 1),
        "split": make(root, "train[:52]", weights=WEIGHTS[:52]),
    }.items():
        with pytest.raises(StateError, match=f"expected a state, with {name} .*; found {name}"):
            other.load_state_dict(saved)
    for wrong in ({}, None, saved | {"rows": -1}, saved | {"rows": 1.0}):
        with pytest.raises(StateError, match=r"expected (the state of a loader|a state with)"):
            make(root).load_state_dict(wrong)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": np.ones(52)}, ValueError, r"a number for each of the 53 rows of train; found shape \(52,\)"),
        ({"weights": np.zeros(53)}, ValueError, "expected a row of train with a weight above 0; found none"),
        ({"weights": [-1, *[1] * 52]}, ValueError, "weights are at least 0 and finite; found -1.0 for row 0"),
        ({"weights": [1, math.nan, *[1] * 51]}, ValueError, "found nan for row 1"),
        ({"batch_size": 0}, ValueError, "batch_size is a multiple of the 1 hosts, and above 0; found 0"),
        ({"shard": ShardOptions(index=0, count=4)}, ValueError, "batch_size is a multiple of the 4 hosts.*; found 6"),
        ({"batch_size": 2.0}, TypeError, "integer"),
        ({"prefetch": -1}, ValueError, "prefetch is a number of batches, at least 0; found -1"),
        ({"split": "valid"}, ManifestError, "there is no split 'valid'"),
    ],
)
def test_bad_options_are_named(root, options, error, message):
    with pytest.raises(error, match=message):
        make(root, **options)


def test_the_last_row_is_not_passed(root, monkeypatch):
    monkeypatch.setattr(hashing, "unit", lambda hashes: np.full(len(hashes), 1 - 2.0**-53))
    weights = np.full(53, 0.1)
    weights[50:] = 0

    assert set(numbers(take(make(root, weights=weights), 1))) == {49}


def test_the_script_of_the_page(tmp_path):
    done = scripts.run(scripts.script("by_weight"), tmp_path / "run")

    assert done.returncode == 0, done.stderr
    shares = np.array(done.stdout.removeprefix("shares [").removesuffix("]\n").split(), dtype=np.float64)
    assert np.abs(shares - 0.25).max() < 4 * math.sqrt(0.25 * 0.75 / 12_800)


def test_a_data_set_of_them(root, ragged_root):
    noise = Noise(features="x", deviation=1.0)
    options = {"weights": np.arange(53.0), "batch_size": 6, "seed": 2, "augment": [noise]}
    loader = WeightedLoader(root, "train", **options)
    expected = list(itertools.islice(loader, 9))
    loader = WeightedLoader(root, "train", **options)
    dataset = loader.dataset()
    assert not dataset.options().autotune.enabled

    assert dataset.element_spec["x"] == tf.TensorSpec([6, 2], tf.float32)
    assert_same(arrays(dataset.take(4)), expected[:4])
    loader.advance(4)
    assert_same(arrays(loader.dataset().take(5)), expected[4:])
    assert_same(itertools.islice(loader, 5), expected[4:])

    supervised = WeightedLoader(root, "train", weights=np.ones(53), batch_size=5, as_supervised=True)
    inputs, labels = next(iter(supervised.dataset()))
    np.testing.assert_array_equal(inputs, next(iter(supervised))[0])
    assert labels.dtype == tf.int64
    ragged = WeightedLoader(ragged_root, "train", weights=np.ones(53), batch_size=5)
    assert ragged.dataset().element_spec["v"].shape[1] is None
    assert_same(arrays(ragged.dataset().take(3)), itertools.islice(ragged, 3))
    with pytest.raises(ValueError, match="expected a number of batches; found -1"):
        loader.advance(-1)
