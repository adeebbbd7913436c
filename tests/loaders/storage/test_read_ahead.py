"""Shards that are not mapped are read before they are due, so that a slow store costs an epoch little."""

import threading
import time
import uuid

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from loaders import Loader, ShardOptions
from loaders import numpy as numpy_loader
from loaders.reading import windows
from loaders.storage.shards import Shards
from loaders.storage.store import ShardError
from tests.support.numbered import numbers, small_chunks, write_numbered

SECONDS = 0.1
"""How long the store takes to answer, however many ask at once."""


class SlowFileSystem(MemoryFileSystem):
    protocol = "slow"

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("slow://", "memory://"))

    def cat_file(self, *args, **kwargs):
        time.sleep(SECONDS)
        return super().cat_file(*args, **kwargs)

    def info(self, *args, **kwargs):
        time.sleep(SECONDS)
        return super().info(*args, **kwargs)


fsspec.register_implementation("slow", SlowFileSystem, clobber=True)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Windows of 60 rows, in chunks of 12, so 5 of them."""
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=60 * 16)
    write_numbered(tmp_path / "out", [1000, 800, 600], rows_per_record=4)
    return tmp_path / "out"


def upload(root, protocol):
    place = f"{uuid.uuid4().hex}/out"
    for path in root.rglob("*"):
        if path.is_file():
            MemoryFileSystem().pipe_file(f"memory://{place}/{path.relative_to(root).as_posix()}", path.read_bytes())
    return f"{protocol}://{place}"


@pytest.mark.parametrize("kind", [Loader, numpy_loader.Loader])
def test_the_next_window_of_mapped_files_is_read_while_a_batch_is_used(root, monkeypatch, kind):
    ends, original = [], Shards.read_runs

    def spy(self, runs, target, at, order=None):
        original(self, runs, target, at, order)
        ends.append(int(at[-1] + runs.stop[-1] - runs.start[-1]))

    monkeypatch.setattr(Shards, "read_runs", spy)
    iterator = iter(kind(root, "train", batch_size=20, shuffle=False, prefetch=1))
    next(iterator)
    until = time.monotonic() + 30
    while ends.count(60) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert ends.count(60) == 2, ends  # the last row of a window of 60

    ends.clear()
    next(iter(kind(root, "train", batch_size=20, shuffle=False, prefetch=0)))
    time.sleep(0.05)
    assert ends == [24]  # the chunks of these rows


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Loader, numpy_loader.Loader])
def test_an_epoch_from_a_slow_store_takes_little_longer_than_a_local_one(root, tmp_path, kind):
    """A window of 60 rows is gone after 75 ms, in less time than one answer of the store takes."""
    slow = upload(root, "slow")

    def epoch(place, **options):
        loader = kind(place, "train", batch_size=20, seed=3, **options)
        begun, found = time.monotonic(), []
        for batch in loader:
            found.append(np.asarray(batch["n"]))
            time.sleep(0.025)
        return time.monotonic() - begun, np.concatenate(found)

    epoch(root)  # what is done once in a process
    runs = [(epoch(root), epoch(slow)) for _ in range(2)]

    assert all((found == expected).all() for (_, expected), (_, found) in runs)
    # The faster one of two, as the machine may have something else to do.
    local, took = (min(seconds for seconds, _ in place) for place in zip(*runs, strict=True))
    assert took < 1.2 * local, (took, local)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (numpy_loader.Loader, {}),
        (numpy_loader.Loader, {"streams": 2}),
        (numpy_loader.Loader, {"shuffle": False}),
        (Loader, {"streams": 2}),
    ],
)
def test_what_is_read_ahead_changes_no_batch(root, tmp_path, kind, options):
    options = {"batch_size": 50, "seed": 1, "epochs": 2, **options}
    there = upload(root, "memory")
    whole = list(numpy_loader.Loader(root, "train", **options))
    loader = kind(there, "train", **options)
    iterator = iter(loader)
    head = [next(iterator) for _ in range(20)]
    restored = kind(there, "train", cache_dir=tmp_path / "cache", **options)
    restored.load_state_dict(loader.state_dict())

    assert numbers([*head, *restored]) == numbers(whole)


@pytest.mark.parametrize("hosts", [1, 2])
def test_the_bytes_that_are_read_ahead_are_bounded(root, monkeypatch, hosts):
    """The window that is due and two more, of 60 rows each, of all the streams of a host."""
    read = []
    original = Shards.read_runs
    monkeypatch.setattr(
        Shards,
        "read_runs",
        lambda self, runs, *rest: (read.append(int((runs.stop - runs.start).sum())), original(self, runs, *rest)),
    )
    options = {"batch_size": 12, "streams": 4, "prefetch": 0, "shard": ShardOptions(index=0, count=hosts)}
    iterator = iter(numpy_loader.Loader(upload(root, "memory"), "train", remainder="drop", **options))
    next(iterator)
    settle()
    assert sum(read) == 3 * 60 // hosts
    for _ in range(5):  # the next window is due
        next(iterator)
    settle()
    assert sum(read) == 4 * 60 // hosts


def settle():
    """Waits until nothing is read ahead."""
    deadline = time.monotonic() + 20
    while any(thread.name == windows.THREAD_NAME for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("on_corrupt", ["error", "skip"])
def test_what_fails_ahead_is_told_where_it_is_due(root, on_corrupt):
    there = upload(root, "memory")
    MemoryFileSystem().rm_file(f"{there}/train/train-00001.tfrecord")
    options = {"batch_size": 20, "shuffle": False, "on_corrupt": on_corrupt, "remainder": "pad"}
    iterator = iter(numpy_loader.Loader(there, "train", **options))

    assert numbers(next(iterator) for _ in range(50)) == list(range(1000))
    settle()
    if on_corrupt == "error":
        with pytest.raises(ShardError, match="train-00001"):
            next(iterator)
    else:
        left = list(iterator)
        assert sum(batch["mask"].sum() for batch in left) == 600
