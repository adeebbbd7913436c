"""States: save at every step, restore each in a fresh loader, compare the whole tail; and hosts that share an epoch."""

import collections
import dataclasses
import itertools
import json
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders import Loader as TensorLoader
from loaders.format import decode
from loaders.numpy import Loader, ShardOptions
from loaders.order.state import StateError
from loaders.storage import shards as mapped
from loaders.storage.store import ShardError
from tests.support import examples, shards
from tests.support.batches import assert_same, assert_same_batch, damage
from tests.support.manifests import change_manifest
from tests.support.numbered import numbers, small_chunks, write_numbered

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
@pytest.mark.parametrize(("shuffle", "streams", "epochs"), [(True, 1, 3), (False, 1, 2), (True, 4, 2)])
def test_a_state_at_every_step(root, remainder, shuffle, streams, epochs):
    options = {"batch_size": 8, "remainder": remainder, "shuffle": shuffle, "streams": streams, "epochs": epochs}
    whole = list(Loader(root, "train", **options))
    following = list(next_iteration := Loader(root, "train", **options)) and list(next_iteration)
    loader = Loader(root, "train", **options)
    states = [loader.state_dict(), *(loader.state_dict() for _ in loader)]

    assert len(states) == len(whole) + 1 == len(loader) + 1
    for step, saved in enumerate(states):
        saved = json.loads(json.dumps(saved))
        assert len(json.dumps(saved)) < 1000
        restored = Loader(root, "train", **options)
        restored.load_state_dict(saved)
        assert restored.state_dict() == saved
        assert_same(restored, whole[step:])
        assert_same(restored, following)


def test_ragged_states(ragged_root):
    whole = list(Loader(ragged_root, "train", batch_size=6, epochs=2))
    loader = Loader(ragged_root, "train", batch_size=6, epochs=2)
    for step, _ in enumerate(loader):
        restored = Loader(ragged_root, "train", batch_size=6, epochs=2)
        restored.load_state_dict(loader.state_dict())
        assert_same(restored, whole[step + 1 :])


FRESH = """
import json, sys
from loaders.order import chunks
chunks.CHUNK_BYTES, chunks.WINDOW_BYTES = 300, 200
from loaders.numpy import Loader
for state in json.loads(sys.argv[2]):
    loader = Loader(sys.argv[1], "train", batch_size=8, seed=4, epochs=2)
    loader.load_state_dict(state)
    print(json.dumps([batch["n"].tolist() for batch in loader]))
import loaders
rows = loaders.open(sys.argv[1])["train"]
assert rows[3]["n"] == rows[2:9]["n"][1]
foreign = {name.split(".")[0] for name in sys.modules} & {"tensorflow", "keras", "apache_beam", "pipelines", "torch"}
assert not foreign, foreign
assert "numpy.ma" not in sys.modules, "to import it takes as long as the first batch"
"""


def test_a_fresh_process_without_tensorflow(root):
    loader = Loader(root, "train", batch_size=8, seed=4, epochs=2)
    states, batches = [loader.state_dict()], []
    for batch in loader:
        states.append(loader.state_dict())
        batches.append(batch["n"].tolist())
    chosen = (0, 3, 7, len(batches))
    shown = subprocess.run(
        [sys.executable, "-c", FRESH, str(root), json.dumps([states[step] for step in chosen])],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert shown.returncode == 0, shown.stderr
    assert [json.loads(line) for line in shown.stdout.splitlines()] == [batches[step:] for step in chosen]


def test_a_pickle_goes_on_with_the_next_batch(root):
    whole = list(Loader(root, "train", batch_size=8, epochs=2))
    loader = Loader(root, "train", batch_size=8, epochs=2, as_supervised=True)
    supervised = list(pickle.loads(pickle.dumps(loader)))
    iterator = iter(loader)
    for step in range(len(whole)):
        next(iterator)
        assert_same(pickle.loads(pickle.dumps(loader)), supervised[step + 1 :])
    assert_same_batch(supervised[0], (whole[0]["x"], whole[0]["n"]))


def test_another_batch_size_loses_and_repeats_no_row(root):
    whole = numbers(Loader(root, "train", batch_size=8, epochs=2))
    loader = Loader(root, "train", batch_size=8, epochs=2)
    seen = []
    for step, batch in enumerate(loader):
        seen += numbers([batch])
        restored = Loader(root, "train", batch_size=3 + step, epochs=2)
        restored.load_state_dict(loader.state_dict())
        assert seen + numbers(restored) == whole


@pytest.mark.parametrize(
    "other",
    [{"split": "test"}, {"seed": 2}, {"shuffle": False}, {"streams": 2}, {"fingerprint": True}],
    ids=lambda other: next(iter(other)),
)
def test_another_data_set_or_order_is_refused(tmp_path, other):
    rows = {"x": np.zeros((6, 2), "f4")}
    shards.write(tmp_path / "a", {"train": [rows], "test": [rows]}, rows_per_record=2, features=shards.specs(rows))
    shards.write(tmp_path / "b", {"train": [rows], "test": [rows]}, rows_per_record=2, features=shards.specs(rows))
    options = {"batch_size": 2, "seed": 1, "split": "train"}
    saved = Loader(tmp_path / "a", **options).state_dict()
    Loader(tmp_path / "b", **options).load_state_dict(saved)  # a copy is the same data set
    (name,) = other
    if name == "fingerprint":
        change_manifest(tmp_path / "b", lambda value: value["splits"]["train"]["shards"][0].update(crc32c="00000001"))
        other = {}

    loader = Loader(tmp_path / "b", **(options | other))

    with pytest.raises(StateError, match=f"expected .*with {name} .*; found {name} "):
        loader.load_state_dict(saved)


@pytest.mark.parametrize("state", [{}, None, {"version": 2}, {"version": 1}, "rows", "epoch"])
def test_what_is_no_state_is_refused(root, state):
    loader = Loader(root, "train", batch_size=4)
    if isinstance(state, str):
        state = loader.state_dict() | {state: -1}
    with pytest.raises(StateError, match=r"expected (the state of a loader|a state with)"):
        loader.load_state_dict(state)


def test_a_state_of_the_order_before_is_refused(root):
    loader = Loader(root, "train", batch_size=4)
    before = {k: v for k, v in loader.state_dict().items() if k not in ("chunk_records", "window_rows")}
    with pytest.raises(StateError, match="expected the state of a loader, of version 2; found 1"):
        loader.load_state_dict(before | {"version": 1})


@pytest.mark.parametrize(("sizes", "name"), [((900, 200), "chunk_records"), ((300, 400), "window_rows")])
@pytest.mark.parametrize("kind", [Loader, TensorLoader])
def test_a_state_of_other_chunks_or_windows_is_refused(root, monkeypatch, kind, sizes, name):
    saved = kind(root, "train", batch_size=8).state_dict()
    small_chunks(monkeypatch, chunk_bytes=sizes[0], window_bytes=sizes[1])

    with pytest.raises(StateError, match=f"expected a state, with {name} .*; found {name} "):
        kind(root, "train", batch_size=8).load_state_dict(saved)


@pytest.mark.parametrize("streams", [1, 2])
def test_what_was_consumed_is_not_read(tmp_path, monkeypatch, streams):
    # Records whose windows are over are damaged; a reader that meets one fails.
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=400)
    manifest = write_numbered(tmp_path / "out", [120, 61], rows_per_record=2)
    options = {"batch_size": 10, "streams": streams, "seed": 3}
    whole = list(Loader(tmp_path / "out", "train", **options))
    loader = Loader(tmp_path / "out", "train", **options)
    iterator = iter(loader)
    for _ in range(12):
        next(iterator)
    saved = loader.state_dict()
    read = []
    original = mapped.Shards.read_runs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mapped.Shards,
            "read_runs",
            lambda self, runs, *rest: (
                read.extend((run.shard, row // 2) for run in runs for row in range(run.start, run.stop)),
                original(self, runs, *rest),
            ),
        )
        restored = Loader(tmp_path / "out", "train", **options)
        restored.load_state_dict(saved)
        assert_same(restored, whole[12:])
    needless = {(0, record) for record in range(60)} | {(1, record) for record in range(30)}
    needless -= set(read)
    assert len(needless) > 40
    for shard, record in needless:
        damage(tmp_path / "out", manifest, shard, 2 * record)

    restored = Loader(tmp_path / "out", "train", **options)
    restored.load_state_dict(saved)

    assert_same(restored, whole[12:])
    with pytest.raises(ShardError, match="record"):
        list(Loader(tmp_path / "out", "train", **options))


def test_shards_that_were_consumed_need_not_be_there(root):
    whole = list(Loader(root, "train", batch_size=10, shuffle=False))
    loader = Loader(root, "train", batch_size=10, shuffle=False)
    iterator = iter(loader)
    next(iterator), next(iterator)
    (root / "train" / "train-00000.tfrecord").unlink()

    restored = Loader(root, "train", batch_size=10, shuffle=False)
    restored.load_state_dict(loader.state_dict())

    assert_same(restored, whole[2:])


def test_the_first_batch_costs_the_same_everywhere(tmp_path, monkeypatch):
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=1000)
    write_numbered(tmp_path / "out", [3000], rows_per_record=4)
    read = []
    check = decode.check_frames
    monkeypatch.setattr(
        decode, "check_frames", lambda frames, layout: (read.append(len(frames)), check(frames, layout))
    )
    costs = set()
    for rows in range(0, 3000, 250):
        loader = Loader(tmp_path / "out", "train", batch_size=10, prefetch=0)
        loader.load_state_dict(loader.state_dict() | {"rows": rows, "epoch": 10**12})
        read.clear()
        next(iter(loader))
        costs.add(sum(read))
    # A window has 62 rows, and a batch may have rows of two.
    assert max(costs) <= 2 * (62 // 4 + 2)


def test_identity_is_in_every_state(root):
    loader = Loader(root, "train", batch_size=5, seed=-1)

    assert loader.state_dict() == {
        "version": 2,
        **dataclasses.asdict(loader._cursor.identity),
        "epoch": 0,
        "rows": 0,
    }
    assert loader.state_dict()["seed"] == 2**64 - 1


# Hosts.


@settings(max_examples=examples(25))
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    streams=st.sampled_from([1, 2, 4, 6]),
    per_stream=st.integers(1, 4),
    remainder=st.sampled_from(["keep", "drop", "pad"]),
    shuffle=st.booleans(),
    data=st.data(),
)
def test_every_row_comes_once_whatever_hosts_resume(
    tmp_path_factory, counts, streams, per_stream, remainder, shuffle, data
):
    out = tmp_path_factory.mktemp("data") / "out"
    write_numbered(out, counts, rows_per_record=3)
    divisors = [count for count in range(1, streams + 1) if streams % count == 0]
    divisors = divisors[:1] if remainder == "keep" else divisors  # it is refused for several
    seen, state, epochs, guard = collections.Counter(), None, 2, 0
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, chunk_bytes=data.draw(st.integers(1, 600)), window_bytes=data.draw(st.integers(1, 800)))
        while state is None or state["epoch"] < epochs:
            guard += 1
            assert guard < 400
            hosts = data.draw(st.sampled_from(divisors))
            group = [
                Loader(
                    out,
                    "train",
                    batch_size=streams * per_stream,
                    streams=streams,
                    shuffle=shuffle,
                    remainder=remainder,
                    shard=ShardOptions(index=index, count=hosts),
                    epochs=epochs,
                )
                for index in range(hosts)
            ]
            for loader in group:
                if state is not None:
                    loader.load_state_dict(state)
            iterators = [iter(loader) for loader in group]
            for _ in range(data.draw(st.integers(1, 6))):
                batches = [next(iterator, None) for iterator in iterators]
                states = [loader.state_dict() for loader, batch in zip(group, batches, strict=True) if batch]
                assert len({batch is None for batch in batches}) == 1
                if not states:
                    state = {"epoch": epochs}
                    break
                assert all(found == states[0] for found in states)
                state = states[0]
                for batch in filter(None, batches):
                    kept = batch["mask"] if remainder == "pad" else slice(None)
                    assert remainder == "keep" or len(batch["n"]) * len(batches) == streams * per_stream
                    assert not np.asarray(batch["n"])[~kept].any() if remainder == "pad" else True
                    seen.update((state["epoch"], n) for n in numbers([{"n": batch["n"][kept]}]))
                if len(states) < len(group):
                    break
    rows = sum(counts)
    assert all(count == 1 for count in seen.values())
    for epoch in range(epochs):
        found = sum(1 for number, _ in seen if number == epoch)
        if remainder == "drop":
            assert found == rows // streams // per_stream * per_stream * streams
        else:
            assert found == rows


@pytest.mark.parametrize("kind", [Loader, TensorLoader])
@pytest.mark.parametrize("hosts", [1, 2, 3, 4])
@pytest.mark.parametrize("remainder", ["drop", "pad"])
def test_the_global_batch_is_the_same_for_any_number_of_hosts(root, kind, hosts, remainder):
    """Row for row, as JAX joins the batches of processes: one after the other."""
    common = {"batch_size": 24, "streams": 12, "seed": 5, "epochs": 2, "remainder": remainder}
    whole = list(Loader(root, "train", **common))
    shares = [list(kind(root, "train", shard=ShardOptions(index=i, count=hosts), **common)) for i in range(hosts)]

    assert {len(share) for share in shares} == {len(whole)} == {6 if remainder == "pad" else 4}
    for step, batch in enumerate(whole):
        assert {len(share[step]["n"]) for share in shares} == {24 // hosts}
        joined = {name: np.concatenate([np.asarray(share[step][name]) for share in shares]) for name in batch}
        assert_same_batch(joined, batch)


def test_each_host_reads_its_own_rows(tmp_path, monkeypatch):
    """All hosts together read little more than one alone: the chunks where one stream ends and the next begins."""
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=3000)
    write_numbered(tmp_path / "out", [1500, 1500], rows_per_record=4)
    read, check = [], decode.check_frames
    monkeypatch.setattr(
        decode, "check_frames", lambda frames, layout: (read.append(len(frames)), check(frames, layout))
    )

    def cost(hosts):
        costs = []
        for index in range(hosts):
            mapped._CHECKED.clear()
            read.clear()
            shard = ShardOptions(index=index, count=hosts)
            options = {"batch_size": 24, "streams": 12, "remainder": "pad", "shard": shard}
            # Read ahead, a record that lies in two windows may be checked by two threads at once.
            list(Loader(tmp_path / "out", "train", prefetch=0, **options))
            costs.append(sum(read))
        return costs

    (alone,) = cost(1)
    assert alone == 750
    for hosts in (2, 3, 4):
        costs = cost(hosts)
        assert sum(costs) <= alone + hosts
        assert max(costs) <= alone // hosts + 2


def test_padding(root, ragged_root):
    batches = list(Loader(root, "train", batch_size=10, remainder="pad"))
    assert [batch["mask"].sum() for batch in batches] == [10, 10, 10, 10, 10, 3]
    assert batches[-1]["mask"].dtype == np.bool_
    assert not batches[-1]["x"][3:].any()
    assert batches[-1]["x"][:3].all()
    *_, (inputs, labels, mask) = Loader(root, "train", batch_size=10, remainder="pad", as_supervised=True)
    assert (inputs.shape, labels.shape, mask.tolist()) == ((10, 2), (10,), [True] * 3 + [False] * 7)
    *_, last = Loader(ragged_root, "train", batch_size=10, remainder="pad")
    assert last["s"][3:].tolist() == [[b"", b""]] * 7
    assert last["v_length"][3:].tolist() == [0] * 7
    assert not last["v"][3:].any()


def test_drop_remainder_is_the_short_form(root):
    assert_same(
        Loader(root, "train", batch_size=10, drop_remainder=True),
        Loader(root, "train", batch_size=10, remainder="drop"),
    )
    with pytest.raises(ValueError, match="remainder is 'keep' or 'drop' with drop_remainder; found 'pad'"):
        Loader(root, "train", batch_size=10, drop_remainder=True, remainder="pad")


@pytest.mark.parametrize("kind", [Loader, TensorLoader])
def test_an_endless_iteration_goes_on_after_the_one_before(root, kind):
    """Five epochs were begun, so the next iteration begins with the sixth; no state goes back."""
    loader = kind(root, "train", batch_size=10, epochs=None)
    whole = numbers(Loader(root, "train", batch_size=10, epochs=8))
    first = numbers(itertools.islice(loader, 5 * 6 - 3))
    state = loader.state_dict()
    second = numbers(itertools.islice(loader, 6))

    assert first == whole[: len(first)]
    assert second == whole[5 * 53 : 6 * 53]
    assert (state["epoch"], loader.state_dict()["epoch"]) == (4, 5)
    again = kind(root, "train", batch_size=10, epochs=None)
    again.load_state_dict(state)
    assert numbers(itertools.islice(again, 2)) == whole[len(first) : len(first) + 20]
    assert numbers(itertools.islice(again, 6)) == whole[5 * 53 : 6 * 53]


@pytest.mark.parametrize("kind", [Loader, TensorLoader])
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_a_state_after_the_last_batch_trains_no_more(root, kind, remainder):
    """A program that had ended, and is started again, finds nothing left; its next iteration is the next one."""
    options = {"batch_size": 10, "epochs": 3, "remainder": remainder}
    loader = kind(root, "train", **options)
    whole = numbers(loader)
    saved = json.loads(json.dumps(loader.state_dict()))
    assert (loader.epoch, saved["epoch"]) == (3, 2)

    restored = kind(root, "train", **options)
    restored.load_state_dict(saved)
    assert restored.is_over()
    assert list(restored) == []
    assert restored.state_dict() == saved
    following = numbers(restored)
    copied = pickle.loads(pickle.dumps(loader))
    assert following == numbers(loader) == numbers(copied) != whole


@pytest.mark.parametrize("kind", [Loader, TensorLoader])
def test_a_state_after_one_epoch_is_at_the_next(root, kind):
    """A training may be a loop over epochs, each of which is an iteration."""
    loader = kind(root, "train", batch_size=10)
    whole = numbers(Loader(root, "train", batch_size=10, epochs=2))
    assert numbers(loader) == whole[:53]

    restored = kind(root, "train", batch_size=10)
    restored.load_state_dict(loader.state_dict())
    assert restored.epoch == 1
    assert numbers(restored) == whole[53:]
