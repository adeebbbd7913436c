"""`shuffle="global"`: a permutation of all rows in every epoch, the same whoever reads it."""

import json

import fsspec
import numpy as np
import pytest

import loaders
from loaders import ShardOptions
from loaders import numpy as numpy_loader
from loaders.order import hashing
from loaders.order.state import StateError
from tests.support import ragged
from tests.support.batches import assert_same, break_record
from tests.support.numbered import numbers

GLOBAL = {"shuffle": "global", "batch_size": 8, "seed": 11}
BOTH = pytest.mark.parametrize("kind", [numpy_loader.Loader, loaders.Loader])

# It never changes without a new version of the state.
GOLDEN = [42, 36, 0, 51, 11, 5, 14, 16, 15, 1, 26, 21]


def epoch_of(rows, *, epoch, streams=1, batch_size=8):
    """The order of an epoch, by the words of docs/format.md."""
    order = hashing.permute(hashing.derive(11, 8, epoch), np.arange(rows), rows)
    parts = [order[s * rows // streams : (s + 1) * rows // streams] for s in range(streams)]
    size = batch_size // streams
    steps = -(-max(map(len, parts)) // size)
    return [int(n) for step in range(steps) for part in parts for n in part[step * size : (step + 1) * size]]


@BOTH
@pytest.mark.parametrize("streams", [1, 4])
def test_the_order_is_a_permutation_of_all_rows(root, kind, streams):
    loader = kind(root, "train", epochs=2, streams=streams, **GLOBAL)
    found = numbers(loader)

    assert found == epoch_of(53, epoch=0, streams=streams) + epoch_of(53, epoch=1, streams=streams)
    assert sorted(found[:53]) == sorted(found[53:]) == list(range(53))
    assert all(np.array_equal(np.asarray(b["x"])[:, 1], 2 * np.asarray(b["x"])[:, 0]) for b in loader)


def test_the_golden_order(root):
    assert numbers(loaders.load(root, "train", **GLOBAL))[:12] == GOLDEN


def test_parts_filters_memory_and_copies(root, tmp_path):
    part = numpy_loader.Loader(root, "train[10:20]+train[33:]", **GLOBAL)
    rows = [*range(10, 20), *range(33, 53)]
    expected = [rows[n] for n in epoch_of(30, epoch=0)]

    assert numbers(part) == expected
    options = {"where": "n >= -999975"} | GLOBAL
    assert numbers(numpy_loader.Loader(root, "train", **options)) == [25 + n for n in epoch_of(28, epoch=0)]
    for others in ({"in_memory": True}, {"cache_dir": tmp_path / "cache"}, {"prefetch": 0}, {"batch_size": 3}):
        assert numbers(numpy_loader.Loader(root, "train[10:20]+train[33:]", **GLOBAL | others)) == expected


def test_rows_that_differ_in_size(ragged_root):
    lengths = ragged.lengths_of(53)
    arrays = list(numpy_loader.Loader(ragged_root, "train", **GLOBAL))

    assert ragged.numbers_of(arrays, lengths) == epoch_of(53, epoch=0)
    assert_same(loaders.load(ragged_root, "train", **GLOBAL).as_numpy_iterator(), arrays)


@BOTH
@pytest.mark.parametrize("remainder", ["keep", "pad"])
def test_a_state_at_every_step(root, kind, remainder):
    def make(**options):
        return kind(root, "train", epochs=2, remainder=remainder, **GLOBAL | options)

    def rows(loader):
        return numbers({"n": np.asarray(b["n"])[np.asarray(b["mask"])] if "mask" in b else b["n"]} for b in loader)

    whole, loader = rows(make()), make()
    states = [loader.state_dict(), *(loader.state_dict() for _ in loader)]
    for step, state in enumerate(states[:-1]):
        resumed = make(batch_size=5)
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert rows(resumed) == whole[step // 7 * 53 + min(step % 7 * 8, 53) :]
    with pytest.raises(StateError, match="expected a state, with shuffle True; found shuffle 'global'"):
        make(shuffle=True).load_state_dict(states[1])


@BOTH
def test_hosts_share_what_one_has(root, kind):
    options = GLOBAL | {"streams": 4, "remainder": "drop"}
    whole = list(kind(root, "train", **options))
    for count in (2, 4):
        hosts = [kind(root, "train", shard=ShardOptions(index=i, count=count), **options) for i in range(count)]
        for batch, *shares in zip(whole, *hosts, strict=True):
            assert np.asarray(batch["n"]).tolist() == np.concatenate([np.asarray(s["n"]) for s in shares]).tolist()


def test_rows_that_are_damaged_are_left_out(root):
    break_record(root, loaders.open(root).manifest, 2, 1, at=40)
    options = GLOBAL | {"remainder": "pad", "on_corrupt": "skip"}
    for loader in (numpy_loader.Loader(root, "train", **options), loaders.Loader(root, "train", **options)):
        found = numbers({"n": np.asarray(batch["n"])[np.asarray(batch["mask"])]} for batch in loader)
        assert found == [n for n in epoch_of(53, epoch=0) if n not in range(24, 28)]
        assert [record.record for record in loader.skipped] == [1]


def test_remote_rows_are_not_read_one_by_one(root, tmp_path):
    remote = f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").put(str(root), f"/{tmp_path.name}", recursive=True)
    with pytest.raises(ValueError, match=r"shuffle='global' reads rows one by one: expected a local data set.*memory:"):
        numpy_loader.Loader(remote, "train", **GLOBAL)
    for others in ({"in_memory": True}, {"cache_dir": tmp_path / "cache"}, {"cache_dir": tmp_path, "cache_bytes": 0}):
        assert numbers(numpy_loader.Loader(remote, "train", **GLOBAL, **others)) == epoch_of(53, epoch=0)
