"""The thread that reads ahead: it changes no batch, no state and no error, and ends when nobody asks for more."""

import gc
import itertools
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loaders
from loaders import numpy as numpy_loader
from loaders.numpy import Loader
from loaders.reading.prefetch import THREAD_NAME, Prefetcher
from loaders.storage.store import ShardError
from tests.support import ROOT
from tests.support.batches import assert_same, damage
from tests.support.numbered import numbers, small_chunks, write_numbered


@pytest.fixture
def root(tmp_path, monkeypatch):
    """53 rows in four shards, one of them empty, in small chunks and windows."""
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=4)
    return tmp_path / "out"


def threads():
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def wait_until(condition):
    """Whether a condition becomes true within some seconds."""
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@given(count=st.integers(0, 40), depth=st.integers(1, 20), fails=st.booleans())
def test_items_come_in_order_and_an_error_in_its_place(count, depth, fails):
    def items():
        yield from range(count)
        if fails:
            raise KeyError("the end")

    ahead = Prefetcher(items(), depth=depth)
    assert list(itertools.islice(ahead, count)) == list(range(count))
    if fails:
        with pytest.raises(KeyError, match="the end"):
            next(ahead)
    assert list(ahead) == []


@pytest.mark.parametrize("depth", [1, 2, 9, 16])
def test_no_more_is_made_than_was_asked_for(depth):
    made = []
    ahead = Prefetcher((made.append(number) or number for number in itertools.count()), depth=depth)
    time.sleep(0.02)
    assert made == []
    for number in range(20):
        assert next(ahead) == number
        wait_until(lambda number=number: len(made) > number + 1)
        time.sleep(0.002)
        assert number + 1 < len(made) <= number + 1 + depth


@pytest.mark.parametrize("prefetch", [1, 3, 16])
@pytest.mark.parametrize("remainder", ["keep", "pad"])
def test_batches_and_states_are_those_without_a_thread(root, prefetch, remainder):
    def run(prefetch):
        loader = Loader(
            root, "train", batch_size=6, streams=2, epochs=2, seed=5, remainder=remainder, prefetch=prefetch
        )
        return [(loader.state_dict(), batch) for batch in loader] + [(loader.state_dict(), {})]

    expected, found = run(0), run(prefetch)

    assert [state for state, _ in found] == [state for state, _ in expected]
    assert_same([batch for _, batch in found], [batch for _, batch in expected])


def test_a_state_counts_what_was_yielded(root):
    loader = Loader(root, "train", batch_size=5, prefetch=8)
    iterator = iter(loader)
    for step in range(1, 5):
        next(iterator)
        assert loader.state_dict()["rows"] == 5 * step
    whole = numbers(Loader(root, "train", batch_size=5))
    assert numbers(pickle.loads(pickle.dumps(loader))) == whole[20:]
    assert numbers(iterator) == whole[20:]


def test_the_default_is_batches_of_a_window(root, monkeypatch):
    # A window has 12 rows.
    assert [Loader(root, "train", batch_size=rows)._arrays._depth(-1) for rows in (1, 3, 6, 12, 50)] == [12, 4, 2, 1, 1]
    monkeypatch.setattr(numpy_loader, "MOST_AHEAD", 5)
    assert Loader(root, "train", batch_size=1)._arrays._depth(-1) == 5
    with pytest.raises(ValueError, match=r"prefetch is a number of batches, or AUTOTUNE \(-1\); found -2"):
        Loader(root, "train", batch_size=1, prefetch=-2)
    with pytest.raises(TypeError):
        Loader(root, "train", batch_size=1, prefetch=1.5)
    before = len(threads())
    iterator = iter(Loader(root, "train", batch_size=1, prefetch=0))
    next(iterator)
    assert len(threads()) == before


@pytest.mark.parametrize("prefetch", [0, 1, 16])
def test_a_damaged_record_is_an_error_at_its_batch(root, prefetch):
    damage(root, loaders.open(root).manifest, 2, 20)  # in rows 40 to 43 of the split, in window 36 to 48
    loader, found = Loader(root, "train", batch_size=6, shuffle=False, prefetch=prefetch), []

    with pytest.raises(ShardError, match=r"train-00002\.tfrecord: record 5: expected checksum"):
        found.extend(loader)  # keeps what came before an error

    assert numbers(found) == list(range(36))
    assert loader.state_dict()["rows"] == 36
    assert wait_until(lambda: not threads())


def test_leaving_ends_the_thread(root):
    loader = Loader(root, "train", batch_size=2, epochs=None, prefetch=4)
    for _ in loader:
        assert threads()
        break
    assert wait_until(lambda: not threads())
    # An iterator that nobody has asked, and one in a cycle.
    iter(loader)
    iterator = iter(loader)
    next(iterator)
    cycle = [iterator]
    cycle.append(cycle)
    del cycle, iterator
    gc.collect()
    assert wait_until(lambda: not threads())
    assert len(numbers(Loader(root, "train", batch_size=2))) == 53
    assert wait_until(lambda: not threads())


def consume(loader, queue):
    queue.put(numbers(loader))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_on_its_own(root):
    # The thread may hold the lock of the shards at the moment of the fork.
    context = multiprocessing.get_context("fork")
    whole = numbers(Loader(root, "train", batch_size=5, epochs=2))
    loader = Loader(root, "train", batch_size=5, epochs=2, prefetch=4)
    iterator = iter(loader)
    first = next(iterator)
    with loader._arrays._rows.shards.store._lock:
        queue = context.Queue()
        child = context.Process(target=consume, args=(pickle_copy(loader), queue))
        shared = context.Process(target=consume_shared, args=(loader, iterator, queue))
        child.start()
        assert queue.get(timeout=60) == whole[5:]
        child.join()
        shared.start()
        assert queue.get(timeout=60) == ["RuntimeError", whole]
        shared.join()
    assert numbers([first]) + numbers(iterator) == whole


def pickle_copy(loader):
    return pickle.loads(pickle.dumps(loader))


def consume_shared(loader, iterator, queue):
    found = []
    try:
        next(iterator)
    except RuntimeError as error:
        found.append(type(error).__name__)
    loader.load_state_dict(loader.state_dict() | {"epoch": 0, "rows": 0})
    queue.put([*found, numbers(loader)])


END = """
from loaders.numpy import Loader
iterator = iter(Loader({root!r}, "train", batch_size=1, epochs=None, prefetch=16))
next(iterator)
{end}
"""


@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise SystemExit(3)", 3), ("iterator.cycle = 1", 1)])
def test_a_program_ends_while_the_thread_reads(root, end, code):
    done = subprocess.run(
        [sys.executable, "-c", END.format(root=str(root), end=end)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert "Fatal" not in done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_workers_of_pytorch_have_no_thread_and_take_no_lock(root):
    data = pytest.importorskip("torch.utils.data")

    def show(batch, random):
        return batch | {"threads": np.full(len(batch["n"]), len(threads()))}

    loader = loaders.torch.Loader(root, "train", batch_size=5, prefetch=4, augment=[show], epochs=2)
    whole = Loader(root, "train", batch_size=5, epochs=2)
    here = iter(loader)
    assert next(here)["threads"].all()
    with loader._loader._arrays._rows.shards.store._lock:
        loader.load_state_dict(loader.state_dict() | {"epoch": 0, "rows": 0})
        found = list(data.DataLoader(loader, batch_size=None, num_workers=2))

    assert numbers(found) == numbers(whole)
    assert not any(batch["threads"].any() for batch in found)
