"""Rows of varying length that are packed: every step once, in batches of one shape, from any state on."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.format.spec import FeatureSpec
from loaders.numpy import Loader, ShardOptions
from loaders.order.state import StateError
from loaders.sampling.packed import Packed, _first_fit, _pieces
from tests.support import ragged, shards

FEATURES = ("n", "v")


@pytest.fixture
def root(tmp_path):
    lengths = ragged.lengths_of(40)
    ragged.write(tmp_path / "out", [lengths[:15], lengths[15:]])
    return tmp_path / "out"


def packed(root, *, length=8, batch_size=3, rows=10, **options):
    loader = Loader(root, "train", batch_size=rows, features=FEATURES, **options)
    return Packed(loader, length=length, batch_size=batch_size)


def rows_of(batches):
    """The rows by their numbers, each of its pieces put together again."""
    found = {}
    for batch in batches:
        for place in range(len(batch["n"])):
            ids = batch["segment_ids"][place]
            for segment in range(1, ids.max() + 1):
                (steps,) = np.nonzero(ids == segment)
                assert (np.diff(steps) == 1).all()
                (number,) = set(batch["n"][place, steps].tolist())
                found.setdefault(number, []).append((batch["positions"][place, steps], batch["v"][place, steps]))
            assert not batch["v"][place, ids == 0].any()
    return {
        number: (
            np.sort(np.concatenate([at for at, _ in pieces])).tolist(),
            np.concatenate([values for _, values in sorted(pieces, key=lambda piece: piece[0][0])]).tolist(),
        )
        for number, pieces in found.items()
    }


@pytest.mark.parametrize("length", [3, 8, 100])
def test_every_step_is_there_once(root, length):
    batches = list(packed(root, length=length, seed=2))

    assert {batch["v"].shape for batch in batches} == {(3, length, 3)}
    assert {batch["segment_ids"].dtype for batch in batches} == {np.dtype(np.int32)}
    lengths = ragged.lengths_of(40)
    expected = {
        number + ragged.FIRST: (list(range(steps)), ragged.make_rows(number, [steps])["v"][0].tolist())
        for number, steps in enumerate(lengths)
        if steps
    }
    assert rows_of(batches) == expected
    if length == 8:
        assert len(batches) * 3 < len([steps for steps in lengths if steps])


@pytest.mark.parametrize("remainder", ["keep", "pad"])
def test_it_goes_on_from_every_state(root, remainder):
    whole = list(packed(root, seed=2, epochs=2, remainder=remainder, rows=16))
    for taken in range(len(whole) + 1):
        first = packed(root, seed=2, epochs=2, remainder=remainder, rows=16)
        iterator = iter(first)
        for _ in range(taken):
            next(iterator)
        state = json.loads(json.dumps(first.state_dict()))
        again = packed(root, seed=2, epochs=2, remainder=remainder, rows=16)
        again.load_state_dict(state)
        left = list(again) if taken < len(whole) else []
        assert len(left) == len(whole) - taken
        for batch, expected in zip(left, whole[taken:], strict=True):
            for name, values in expected.items():
                np.testing.assert_array_equal(batch[name], values)


def test_an_iteration_that_is_over_is_followed_by_the_next_epoch(root):
    loader = packed(root, seed=2)
    first, second = list(loader), list(loader)
    assert rows_of(first) == rows_of(second)
    assert any((a["n"] != b["n"]).any() for a, b in zip(first, second, strict=False))


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 12))
def test_pieces_fit_and_lie_apart(lengths, length):
    row, first, steps = _pieces(np.array(lengths, np.int64), length)
    assert np.bincount(row, steps, minlength=len(lengths)).tolist() == lengths
    place, offset, segment = _first_fit(steps, length)
    taken = np.zeros((len(steps) + 1, length), int)
    for at, begin, count in zip(place, offset, steps, strict=True):
        taken[at, begin : begin + count] += 1
    assert taken.max(initial=0) <= 1
    assert (first % length == 0).all()
    for at in set(place.tolist()):
        assert segment[place == at].tolist() == list(range(1, (place == at).sum() + 1))
    # First fit: no piece would have fitted into an earlier place when it came.
    for number, at in enumerate(place.tolist()):
        earlier = [steps[:number][place[:number] == other].sum() for other in range(at)]
        assert all(used + steps[number] > length for used in earlier)


def test_what_cannot_be_packed(root):
    with pytest.raises(ValueError, match=r"feature w: expected rows as long as those of v, \d steps; found \d"):
        list(Packed(Loader(root, "train", batch_size=10), length=8, batch_size=2))
    with pytest.raises(ValueError, match="expected a feature of rows of varying length; found n"):
        Packed(Loader(root, "train", batch_size=10, features=["n"]), length=8, batch_size=2)
    with pytest.raises(ValueError, match="length and batch_size are at least 1; found 0 and 2"):
        packed(root, length=0, batch_size=2)
    shard = ShardOptions(index=0, count=2)
    with pytest.raises(ValueError, match="epochs: expected None, as 2 hosts have different numbers"):
        packed(root, shard=shard, streams=2, remainder="drop")
    assert next(iter(packed(root, shard=shard, streams=2, remainder="drop", epochs=None)))["v"].shape == (3, 8, 3)
    state = packed(root).state_dict()
    with pytest.raises(
        StateError, match=r"expected a state of .'length': 9, 'rows': 10.; found .'length': 8, 'rows': 10"
    ):
        packed(root, length=9).load_state_dict(state)


def test_names_that_a_batch_has_beside_its_features(tmp_path):
    features = (FeatureSpec(name="positions", dtype="float32", shape=(None,)),)
    rows = {"positions": [np.zeros(2, np.float32)]}
    shards.write(tmp_path, {"train": [rows]}, features=features, rows_per_record=1, chunk_records=1)
    with pytest.raises(ValueError, match="positions: a packed batch has this name"):
        Packed(Loader(tmp_path, "train", batch_size=1), length=8, batch_size=2)
