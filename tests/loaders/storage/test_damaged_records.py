"""Records that are damaged and shards that are missing: named, or left out and counted, by both loaders."""

import errno
import logging
import os
import pickle
import re
import subprocess
import sys
import uuid

import numpy as np
import pytest
import tensorflow as tf
from fsspec.implementations.memory import MemoryFileSystem

import loaders
from loaders import Loader, ShardOptions, augment
from loaders import numpy as numpy_loader
from loaders.storage import store
from loaders.storage.store import ShardError
from tests.support import shards
from tests.support.batches import arrays, assert_same, break_record
from tests.support.numbered import small_chunks, write_numbered

KINDS = pytest.mark.parametrize("kind", [Loader, numpy_loader.Loader])


@pytest.fixture
def out(tmp_path, monkeypatch):
    """110 rows, four a record, in three shards of several chunks; records 3 and 4 of the second one are damaged."""
    manifest = write_numbered(tmp_path / "out", [40, 41, 29], rows_per_record=4)
    small_chunks(monkeypatch, chunk_bytes=3 * manifest.record_bytes, window_bytes=16 * 25)
    break_record(tmp_path / "out", manifest, 1, 3, at=manifest.record_bytes - 6)  # a value
    break_record(tmp_path / "out", manifest, 1, 4, at=2)  # its length
    return tmp_path / "out"


LOST = set(range(40 + 12, 40 + 20))


def there(batches):
    """The numbers of the rows that are there, and all batches."""
    found = [batch["n"][batch["mask"]] + 1_000_000 for batch in batches]
    return np.concatenate(found).tolist()


@KINDS
@pytest.mark.parametrize("shuffle", [False, True])
def test_damaged_records_are_left_out_and_told(out, caplog, kind, shuffle):
    options = {"batch_size": 8, "remainder": "pad", "shuffle": shuffle, "epochs": 2}
    loader = kind(out, "train", on_corrupt="skip", **options)
    assert loader.skipped == ()
    with caplog.at_level(logging.WARNING, logger="loaders"):
        batches = arrays(loader) if kind is Loader else list(loader)

    assert len(batches) == len(loader) == 2 * 14
    assert sorted(there(batches)) == sorted(2 * [number for number in range(110) if number not in LOST])
    assert all(len(batch["n"]) == 8 and not batch["x"][~batch["mask"]].any() for batch in batches)
    found = [(damage.file, damage.record, damage.rows) for damage in loader.skipped]
    path = str(out / "train" / "train-00001.tfrecord")
    assert found == [(path, 3, 4), (path, 4, 4)]
    assert "expected checksum" in loader.skipped[0].message
    assert "expected " in loader.skipped[1].message
    assert sorted(record.getMessage() for record in caplog.records) == [
        f"{path}: record {damage.record}: {damage.message}; the rows are left out" for damage in loader.skipped
    ]


@pytest.mark.parametrize("streams", [1, 4])
def test_both_loaders_leave_out_the_same(out, streams):
    options = {
        "batch_size": 12,
        "streams": streams,
        "remainder": "pad",
        "on_corrupt": "skip",
        "seed": 3,
        "augment": [augment.Noise(features="x", deviation=2.0), neighbours],
        "shard": ShardOptions(index=1, count=2) if streams > 1 else ShardOptions(),
    }
    for split in ("train", "train[30:75]"):
        loader, other = (kind(out, split, **options) for kind in (Loader, numpy_loader.Loader))
        expected = list(other)
        assert_same(arrays(loader), expected)
        if streams == 1:  # other streams' rows of a chunk are read, too
            assert [damage.record for damage in loader.skipped] == [damage.record for damage in other.skipped] == [3, 4]
        state = other.state_dict() | {"epoch": 0, "rows": 2 * 12 // streams}
        loader.load_state_dict(state)
        assert_same(arrays(loader), expected[2:])


def neighbours(batch, rng):
    return batch | {"other": batch["n"][rng.partners("other")]}


@KINDS
def test_a_missing_shard_is_left_out_and_told_once(out, caplog, kind):
    path = out / "train" / "train-00002.tfrecord"
    path.unlink()
    loader = kind(out, "train[50:]", batch_size=8, remainder="pad", on_corrupt="skip")
    with caplog.at_level(logging.WARNING, logger="loaders"):
        batches = arrays(loader) if kind is Loader else list(loader)

    assert sorted(there(batches)) == [50, 51, *range(60, 81)]
    assert sum(damage.rows for damage in loader.skipped if damage.file == str(path)) == 29
    assert sum(str(path) in record.getMessage() for record in caplog.records) == 1
    assert "No such file" in loader.skipped[-1].message


@KINDS
def test_without_it_they_are_errors(out, kind):
    with pytest.raises(ShardError, match=r"train-00001.tfrecord: record [34]: expected .*; found"):
        list(kind(out, "train", batch_size=8, shuffle=False, prefetch=0))


def test_the_errors_of_a_data_set_name_them_too(out):
    message = r"train-00001.tfrecord: record 3: expected checksum"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        list(Loader(out, "train", batch_size=8).dataset())
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        list(loaders.load(out, "train", batch_size=8))


@KINDS
@pytest.mark.parametrize("at", [20, 2])
def test_records_that_differ_in_size(ragged_root, kind, at):
    manifest = loaders.open(ragged_root).manifest
    shard = manifest.splits["train"][0]
    whole = list(numpy_loader.Loader(ragged_root, "train", batch_size=10, shuffle=False, remainder="pad"))
    content = bytearray((ragged_root / shard.file).read_bytes())
    content[shard.offsets[1] + at] ^= 1
    (ragged_root / shard.file).write_bytes(content)

    options = {"batch_size": 10, "shuffle": False, "remainder": "pad", "on_corrupt": "skip"}
    loader = kind(ragged_root, "train", **options)
    batches = arrays(loader) if kind is Loader else list(loader)

    lost = sum(damage.rows for damage in loader.skipped)
    records = [damage.record for damage in loader.skipped]
    # After a header that is damaged it is not known where the next record of the chunk begins.
    per_chunk = manifest.chunk_records
    assert records == ([per_chunk] if at == 20 else list(range(per_chunk, 2 * per_chunk))[: len(records)])
    assert sum(int(batch["mask"].sum()) for batch in batches) == sum(int(b["mask"].sum()) for b in whole) - lost
    for batch, expected in zip(batches, whole, strict=True):
        kept = batch["mask"]
        np.testing.assert_array_equal(batch["s"][kept], expected["s"][kept])
        np.testing.assert_array_equal(batch["v_length"][kept], expected["v_length"][kept])
        assert not batch["v_length"][~kept].any()


@KINDS
def test_a_file_that_cannot_be_opened_for_a_while_is_not_damaged(out, monkeypatch, kind):
    monkeypatch.setattr(store, "FIRST_WAIT", 0.001)
    original, left = os.open, [3, 10**9]

    def busy(path, *rest, **options):
        if str(path).endswith("00000.tfrecord") and left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return original(path, *rest, **options)

    monkeypatch.setattr(os, "open", busy)
    options = {"batch_size": 8, "remainder": "pad", "on_corrupt": "skip"}
    loader = kind(out, "train", **options)
    batches = arrays(loader) if kind is Loader else list(loader)
    assert left[0] == 0
    assert sorted(there(batches)) == [number for number in range(110) if number not in LOST]
    assert {damage.record for damage in loader.skipped} == {3, 4}

    left[0] = left[1]  # for good: nothing is left out then, as nothing is known of the shard
    loader = kind(out, "train", **options)
    with pytest.raises(ShardError, match=r"train-00000.tfrecord: expected a shard of .*Too many open files") as caught:
        list(loader)
    assert caught.value.passing
    assert pickle.loads(pickle.dumps(caught.value)).passing
    assert not any("00000" in damage.file for damage in loader.skipped)


@KINDS
def test_a_server_that_is_busy_is_asked_again(out, monkeypatch, kind):
    monkeypatch.setattr(store, "FIRST_WAIT", 0.001)
    memory, place = MemoryFileSystem(), f"memory://{uuid.uuid4().hex}"
    for path in out.rglob("*.*"):
        memory.pipe_file(f"{place}/{path.relative_to(out).as_posix()}", path.read_bytes())
    original, calls = MemoryFileSystem.cat_file, []

    def busy(self, path, *rest, **options):
        calls.append(path)
        if len(calls) % 3 == 1 and path.endswith(".tfrecord"):
            raise RuntimeError("503 Slow Down")
        return original(self, path, *rest, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", busy)
    loader = kind(place, "train", batch_size=8, remainder="pad", on_corrupt="skip")
    batches = arrays(loader) if kind is Loader else list(loader)
    assert sorted(there(batches)) == [number for number in range(110) if number not in LOST]


CUT = """
import os, sys
from loaders.storage import store
store.SMALL_BYTES = 0
from loaders import ShardError
from loaders.numpy import Loader
loader = Loader(sys.argv[1], "train[:40]", batch_size=8, shuffle=False, prefetch=0)
iterator = iter(loader)
next(iterator)
os.truncate(sys.argv[1] + "/train/train-00000.tfrecord", 200)
loader.load_state_dict(loader.state_dict())
try:
    list(loader)
except ShardError as error:
    print(error)
"""


def test_a_file_that_is_cut_off_while_it_is_mapped_is_an_error(tmp_path):
    """Where a map is read beyond the end of its file, the system ends the process."""
    rows = {"x": np.zeros((40, 3000), np.float32)}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=1, features=shards.specs(rows))
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert re.search(r"train-00000.tfrecord: expected a shard of \d+ bytes; found 200", done.stdout)
