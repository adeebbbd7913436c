"""Memory is used again once nobody holds it, and never before."""

import gc
import os
import pickle
import signal

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders import Loader, buffers
from loaders import numpy as numpy_loader
from loaders.buffers import ALIGNMENT, MOST_BUFFERS, REUSED_BYTES, Buffers
from tests.support import shards

ROWS = REUSED_BYTES // 8


def address(array):
    return array.ctypes.data


@pytest.mark.parametrize("dtype", ["u1", "f4", "c16", "?"])
@pytest.mark.parametrize("rows", [0, 1, 7, REUSED_BYTES])
def test_arrays_are_aligned_and_of_their_shape(dtype, rows):
    found = Buffers().empty((rows, 3), np.dtype(dtype))

    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((rows, 3), np.dtype(dtype), True)
    assert not rows or address(found) % ALIGNMENT == 0


def test_what_is_free_is_used_again():
    pool = Buffers()
    first = pool.empty((ROWS,), np.dtype("f8"))
    place = address(first)
    second = pool.empty((ROWS,), np.dtype("f8"))
    assert address(second) != place
    del first
    assert address(pool.empty((2 * ROWS,), np.dtype("f4"))) == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array[5:],
        lambda array: array[3:][4:].reshape(-1, 1)[1],
        lambda array: memoryview(array),
        lambda array: array.view("u1")[8:9],
        lambda array: {"deep": [iter(array)]},
        lambda array: tf.experimental.dlpack.from_dlpack(array.__dlpack__()),
        lambda array: np.asarray(array.T).__dlpack__(),
    ],
)
def test_what_is_held_is_not(hold):
    pool = Buffers()
    array = pool.empty((ROWS,), np.dtype("f8"))
    place, held = address(array), hold(array)
    del array

    others = [pool.empty((ROWS,), np.dtype("f8")) for _ in range(3)]
    assert place not in map(address, others)

    del held
    gc.collect()
    assert address(pool.empty((ROWS,), np.dtype("f8"))) == place


@pytest.mark.slow
def test_a_torch_tensor_holds_its_memory():
    torch = pytest.importorskip("torch")
    pool = Buffers()
    held = torch.from_numpy(pool.empty((ROWS,), np.dtype("f8"))[8:])
    assert held.data_ptr() - 64 not in [address(pool.empty((ROWS,), np.dtype("f8"))) for _ in range(2)]


def test_no_more_is_held_than_a_few():
    pool = Buffers()
    arrays = [pool.empty((ROWS,), np.dtype("f8")) for _ in range(3 * MOST_BUFFERS)]

    assert len(pool._owners) == MOST_BUFFERS
    assert len({address(array) for array in arrays}) == len(arrays)
    assert pickle.loads(pickle.dumps(pool))._owners == []


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Rows of 4 kB and rows of 8 bytes, each of which says its number."""
    out = tmp_path_factory.mktemp("data") / "out"
    numbers = np.arange(700)
    rows = {"n": numbers.astype("f8"), "x": np.repeat(numbers.astype("f4"), 1024).reshape(700, 1024)}
    shards.write(out, {"train": [rows]}, rows_per_record=2, features=shards.specs(rows))
    return out


@settings(max_examples=8, deadline=None)
@given(kind=st.sampled_from([Loader, numpy_loader.Loader]), data=st.data())
def test_batches_that_are_held_do_not_change(large, kind, data):
    """Whichever batches are held, while others come and go, they are what they were."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loaders.order.chunks.CHUNK_BYTES", 50_000)
        patch.setattr("loaders.order.chunks.WINDOW_BYTES", 900_000)
        patch.setattr(buffers, "REUSED_BYTES", 1000)
        loader = kind(large, "train", batch_size=data.draw(st.integers(20, 300)), epochs=6, seed=3)
        held = []
        for batch in loader:
            held = [one for one in held if data.draw(st.booleans())]
            held.append((batch, np.array(batch["n"])))
            for one, numbers in held:
                assert np.array_equal(one["n"], numbers)
                assert np.array_equal(one["x"], np.repeat(numbers.astype("f4"), 1024).reshape(-1, 1024))
            del batch


def test_windows_use_their_memory_again(large, monkeypatch):
    monkeypatch.setattr("loaders.order.chunks.WINDOW_BYTES", 900_000)
    loader = numpy_loader.Loader(large, "train", batch_size=100, epochs=20, prefetch=0)
    for _ in loader:
        pass
    assert 1 <= len(loader._arrays._buffers._owners) <= 5

    made = []
    empty = buffers._owner
    monkeypatch.setattr(buffers, "_owner", lambda size: made.append(size) or empty(size))
    for _ in Loader(large, "train", batch_size=100, epochs=20).dataset():
        pass
    assert sum(size > REUSED_BYTES for size in made) <= MOST_BUFFERS  # of 80 windows


@pytest.mark.parametrize("kind", [Loader, numpy_loader.Loader])
def test_the_first_batch_waits_for_its_own_rows_alone(large, monkeypatch, kind):
    def first():
        return np.asarray(next(iter(kind(large, "train", batch_size=20, prefetch=0)))["n"]).tolist()

    expected = first()
    monkeypatch.setattr("loaders.storage.shards.Shards.read_runs", lambda *given: pytest.fail("chunks were read"))
    assert first() == expected


def test_a_forked_process_waits_for_no_thread_that_it_does_not_have():
    memory = Buffers()
    with memory._lock:  # as a thread that reads ahead may, while workers of a `DataLoader` are forked
        child = os.fork()
        if not child:
            signal.alarm(20)  # which ends it
            try:
                memory.empty((REUSED_BYTES,), np.dtype(np.uint8))
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
