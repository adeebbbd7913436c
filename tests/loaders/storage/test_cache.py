"""Remote shards, and copies of them in a directory with a limit; fsspec alone reads `memory://`."""

import contextlib
import errno
import json
import os
import pathlib
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import loaders
from loaders import Loader
from loaders import numpy as numpy_loader
from loaders.sampling.weighted import WeightedLoader
from loaders.storage import cache as cache_module
from loaders.storage.cache import PART_SUFFIX, Cache
from loaders.storage.store import ShardError
from tests.support.batches import arrays, assert_same
from tests.support.numbered import small_chunks, write_numbered

ROOT = pathlib.Path(__file__).parents[3]
MEMORY = MemoryFileSystem()
KINDS = pytest.mark.parametrize("kind", [Loader, numpy_loader.Loader])


def upload(root):
    """Copies a data set to another file system."""
    remote = f"memory://{uuid.uuid4().hex}/out"
    for path in root.rglob("*"):
        if path.is_file():
            MEMORY.pipe_file(f"{remote}/{path.relative_to(root).as_posix()}", path.read_bytes())
    return remote


def batches_of(loader):
    return arrays(loader) if isinstance(loader, Loader) else list(loader)


def cached(directory):
    """The sizes of the files in a cache, by their names."""
    return {
        path.name: path.stat().st_size
        for path in sorted(pathlib.Path(directory).rglob("*"))
        if path.suffix == ".tfrecord"
    }


def sizes(root):
    return {path.name: path.stat().st_size for path in sorted((root / "train").iterdir()) if path.stat().st_size}


@KINDS
def test_remote_shards_are_read_where_they_are_or_from_copies(root, tmp_path, kind):
    remote = upload(root)
    options = {"batch_size": 10, "seed": 2, "epochs": 2}
    expected = list(numpy_loader.Loader(root, "train", **options))

    assert_same(batches_of(kind(remote, "train", **options)), expected)
    loader = kind(remote, "train", cache_dir=tmp_path / "cache", **options)
    assert cached(tmp_path / "cache") == {}
    next(iter(kind(remote, "train[:10]", batch_size=10, cache_dir=tmp_path / "cache")))
    assert len(cached(tmp_path / "cache")) == 1  # no other was read
    assert_same(batches_of(loader), expected)
    assert cached(tmp_path / "cache") == sizes(root)
    for path in sizes(root):
        MEMORY.rm_file(f"{remote}/train/{path}")
    assert_same(batches_of(kind(remote, "train", cache_dir=tmp_path / "cache", **options)), expected)
    with pytest.raises(
        ShardError, match=rf"{remote}/train/train-0000\d.tfrecord: expected a shard of \d+ bytes; found"
    ):
        batches_of(kind(remote, "train", **options))


def test_all_other_readers_read_remote_shards(root, ragged_root, tmp_path):
    remote, ragged = upload(root), upload(ragged_root)
    rows, remote_rows = (loaders.open(path)["train"] for path in (root, remote))
    assert_same([remote_rows[[3, 40, 52, 3]]], [rows[[3, 40, 52, 3]]])
    assert_same([remote_rows[50:]], [rows[50:]])
    weighted = [
        next(iter(WeightedLoader(path, "train", weights=np.arange(53.0), batch_size=20, prefetch=0)))
        for path in (root, remote)
    ]
    assert_same(weighted[:1], weighted[1:])
    for options in ({}, {"cache_dir": tmp_path / "cache"}):
        assert_same(
            numpy_loader.Loader(ragged, "train", batch_size=7, **options),
            numpy_loader.Loader(ragged_root, "train", batch_size=7),
        )
        assert_same([loaders.open(ragged)["train"][[50, 2]]], [loaders.open(ragged_root)["train"][[50, 2]]])


@KINDS
def test_local_shards_can_be_copied_too(root, tmp_path, kind):
    options = {"batch_size": 10, "seed": 2}
    expected = list(numpy_loader.Loader(root, "train", **options))
    assert_same(batches_of(kind(root, "train", cache_dir=tmp_path / "cache", **options)), expected)
    assert cached(tmp_path / "cache") == sizes(root)


@KINDS
def test_the_limit_is_kept_and_the_rest_is_read_where_it_is(root, tmp_path, kind):
    remote, (first, second, _) = upload(root), sizes(root).values()
    options = {"batch_size": 10, "seed": 2, "epochs": 2}
    expected = list(numpy_loader.Loader(root, "train", **options))
    for limit, files in ((0, 0), (first + second - 1, (1, 2)), (first + second, (2,))):
        cache = tmp_path / f"cache{limit}"
        assert_same(batches_of(kind(remote, "train", cache_dir=cache, cache_bytes=limit, **options)), expected)
        assert sum(cached(cache).values()) <= limit
        assert len(cached(cache)) in np.atleast_1d(files)


def fill(size):
    def fetch(descriptor):
        os.pwrite(descriptor, bytes(size), 0)

    return fetch


def test_the_least_recently_used_of_other_data_sets_are_removed(tmp_path):
    cache = Cache(directory=str(tmp_path), limit=1000)

    def add(data_set, name, size=300):
        found = cache.open(data_set, name, size, fill(size))
        time.sleep(0.02)  # times of files differ
        return found

    held = {name: add("a", name) for name in ("1", "2", "3")}
    for name in ("1", "2"):
        os.close(held[name])
    os.close(add("a", "1"))  # used again
    assert add("a", "4") is None  # its own stay
    assert add("b", "5", 1001) is None
    os.close(add("b", "5", 400))

    assert sorted(path.name for path in tmp_path.rglob("?")) == ["1", "3", "5", "a", "b"]
    assert add("b", "6") is not None  # 1 goes; 3 is open
    assert sorted(path.name for path in tmp_path.rglob("?")) == ["3", "5", "6", "a", "b"]
    os.close(held["3"])


def test_what_a_process_left_unfinished_takes_no_room(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"1{PART_SUFFIX}").write_bytes(bytes(900))
    (tmp_path / "a" / f"2{PART_SUFFIX}").write_bytes(bytes(90))
    cache = Cache(directory=str(tmp_path), limit=1000)

    os.close(cache.open("a", "2", 500, fill(500)))

    assert {path.name: path.stat().st_size for path in (tmp_path / "a").iterdir()} == {"2": 500}

    def fails(descriptor):
        raise KeyError("no network")

    with pytest.raises(KeyError):
        cache.open("a", "3", 500, fails)
    os.close(cache.open("a", "3", 500, fill(500)))


@KINDS
@pytest.mark.parametrize("damage", ["byte", "end"])
def test_a_damaged_copy_is_made_anew(root, tmp_path, kind, damage):
    remote = upload(root)
    options = {"batch_size": 10, "seed": 2, "cache_dir": tmp_path / "cache"}
    expected = batches_of(kind(remote, "train", **options))
    for path in (tmp_path / "cache").rglob("*.tfrecord"):
        content = bytearray(path.read_bytes())
        content[30] ^= 1
        path.write_bytes(content if damage == "byte" else content[:-1])

    assert_same(batches_of(kind(remote, "train", **options)), expected)

    for path in (tmp_path / "cache").rglob("*.tfrecord"):
        assert path.read_bytes() == (root / "train" / path.name).read_bytes()


@KINDS
def test_an_original_that_is_damaged_is_named(root, tmp_path, kind):
    path = root / "train" / "train-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)
    remote = upload(root)
    with pytest.raises(ShardError, match=rf"{remote}/train/train-00002.tfrecord: record 0: expected checksum"):
        batches_of(kind(remote, "train", batch_size=10, cache_dir=tmp_path / "cache"))
    loader = kind(remote, "train", batch_size=10, cache_dir=tmp_path / "cache", remainder="pad", on_corrupt="skip")
    assert sum(int(batch["mask"].sum()) for batch in batches_of(loader)) == 53 - 4
    assert [(damage.record, damage.rows) for damage in loader.skipped] == [(0, 4)]


SHARED = """
import pathlib, sys, json
import numpy as np
from fsspec.implementations.memory import MemoryFileSystem
from loaders.order import chunks
from loaders.storage import store
chunks.CHUNK_BYTES, chunks.WINDOW_BYTES = 3000, 4000
from loaders.numpy import Loader
local, cache, limit, epochs = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 3
for path in local.rglob("*.*"):
    MemoryFileSystem().pipe_file(f"memory://x/{path.relative_to(local)}", path.read_bytes())
fetched = []
fetch = store.Store._fetch
store.Store._fetch = lambda self, shard, part: (fetched.append(shard), fetch(self, shard, part))
loader = Loader("memory://x", "train", batch_size=50, epochs=epochs, cache_dir=cache, cache_bytes=limit or None)
found = np.sort(np.concatenate([batch["n"] for batch in loader]))
assert (found == np.sort(np.tile(np.arange(2400) - 1_000_000, epochs))).all()
print(json.dumps(fetched))
assert "tensorflow" not in sys.modules
"""


def write_copy(cache, name, size=400):
    found = cache.open("set", name, size, lambda part: os.pwrite(part, b"x" * size, 0))
    assert found is not None
    os.close(found)


def test_a_file_that_another_process_takes_away_is_no_error(tmp_path, monkeypatch):
    """A copy that was being made may go while sizes are added up."""
    files = cache_module._files
    monkeypatch.setattr(cache_module, "_files", lambda directory: [*files(directory), tmp_path / "gone.part"])
    cache = Cache(directory=str(tmp_path), limit=1000)
    for number in range(2):
        write_copy(cache, f"{number}.tfrecord")
    assert cached(tmp_path) == {"0.tfrecord": 400, "1.tfrecord": 400}


def test_nobody_waits_for_a_copy_that_was_given_up(tmp_path, monkeypatch):
    """Its lock goes with it; who waits for the lock would wait for ever."""
    cache = Cache(directory=str(tmp_path), limit=1000)

    def fail(*_):
        raise OSError(errno.EIO, "no sizes")

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "_make_room", fail)
        with pytest.raises(OSError, match="no sizes"):
            write_copy(cache, "0.tfrecord")
    assert list(tmp_path.rglob(f"*{PART_SUFFIX}")) == []
    write_copy(cache, "0.tfrecord")
    assert cached(tmp_path) == {"0.tfrecord": 400}


@pytest.mark.slow
@pytest.mark.parametrize("share", [None, 0.5])
def test_processes_share_copies(tmp_path, share):
    write_numbered(tmp_path / "out", [200] * 12, rows_per_record=10)
    whole = sum(sizes(tmp_path / "out").values())
    limit = int(whole * share) if share else 0
    arguments = [str(tmp_path / "out"), str(tmp_path / "cache"), str(limit)]
    processes = [
        subprocess.Popen([sys.executable, "-c", SHARED, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    most = 0
    while any(process.poll() is None for process in processes):
        held = 0
        for path in (tmp_path / "cache").rglob("*.tfrecord*"):
            with contextlib.suppress(FileNotFoundError):
                held += path.stat().st_size
        most = max(most, held)
    fetched = [shard for process in processes for shard in json.loads(process.communicate()[0])]
    assert [process.returncode for process in processes] == [0, 0]
    held = sum(cached(tmp_path / "cache").values())
    if share:
        assert most <= limit
        assert held > limit - whole // 12
    else:
        assert sorted(fetched) == list(range(12))  # each once, by whichever process
        assert held == whole


def test_small_reads_of_a_remote_shard(tmp_path, monkeypatch):
    # A shard of many records, of which random rows are read: only their records are.
    from loaders.storage import store

    manifest = write_numbered(tmp_path / "out", [400], rows_per_record=4)
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    remote, read = upload(tmp_path / "out"), []
    original = store.Store.read

    def counted(self, shard, begin, end):
        read.append(end - begin)
        return original(self, shard, begin, end)

    monkeypatch.setattr(store.Store, "read", counted)
    rows = loaders.open(remote)["train"]
    assert (rows[[5, 399, 200]]["n"] + 1_000_000).tolist() == [5, 399, 200]
    assert read == [manifest.record_bytes] * 3


def refuse_writing(monkeypatch, directory):
    """What a second user meets in a directory of a first one; root may do anything, so it is played."""
    original = os.open

    def read_only(path, flags, *rest, **options):
        if str(path).startswith(str(directory)) and flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, flags, *rest, **options)

    def refuse(*rest, **options):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "open", read_only)
    for name in ("utime", "mkdir", "unlink"):
        monkeypatch.setattr(os, name, refuse)


@KINDS
@pytest.mark.parametrize("limit", [None, 10_000])
def test_a_second_user_reads_what_is_there(root, tmp_path, monkeypatch, kind, limit):
    cache = tmp_path / "cache"
    options = {"batch_size": 10, "seed": 2, "cache_dir": cache, "cache_bytes": limit}
    expected = list(numpy_loader.Loader(root, "train", batch_size=10, seed=2))
    next(iter(numpy_loader.Loader(root, "train[:10]", batch_size=10, cache_dir=cache)))
    held = cached(cache)
    assert len(held) == 1
    path = next(cache.rglob("*.tfrecord"))

    with monkeypatch.context() as patch:
        refuse_writing(patch, cache)
        assert_same(batches_of(kind(root, "train", **options)), expected)
    assert cached(cache) == held  # nothing could be added

    path.write_bytes(bytes(path.stat().st_size))  # nor can a damaged copy be removed: the shard is read where it is
    with monkeypatch.context() as patch:
        refuse_writing(patch, cache)
        assert_same(batches_of(kind(root, "train", **options)), expected)


def test_a_copy_looks_at_no_other_unless_there_is_no_room(tmp_path, monkeypatch):
    walks, original = [], os.walk
    monkeypatch.setattr(os, "walk", lambda *rest: (walks.append(rest), original(*rest))[1])
    cache = Cache(directory=str(tmp_path), limit=1000)
    for number in range(10):
        os.close(cache.open("a", str(number), 90, fill(90)))
    assert len(walks) == 1  # the first one, which does not know what is there

    (tmp_path / "a" / "3").unlink()  # by somebody else
    assert cache.open("b", "0", 200, fill(200)) is not None
    assert len(walks) == 2
    assert sum(path.stat().st_size for path in tmp_path.rglob("?") if path.is_file()) <= 1000
