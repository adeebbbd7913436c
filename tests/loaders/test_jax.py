"""JAX: the same batches on a device, and states that count what was trained on."""

import pickle

import numpy as np
import pytest

from loaders.numpy import Loader as NumpyLoader
from tests.support import ragged
from tests.support.numbered import small_chunks, write_numbered

jax = pytest.importorskip("jax")
jax.config.update("jax_num_cpu_devices", 4)

from loaders.jax import Loader  # noqa: E402 - after the check that it is there

pytestmark = pytest.mark.slow  # scripts/test.sh installs no JAX, .ci/run does


@pytest.fixture
def root(tmp_path, monkeypatch):
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=4)
    return tmp_path / "out"


def rows_of(batches):
    return [np.asarray(batch["n"]).tolist() for batch in batches]


def test_batches_are_those_of_numpy_on_the_device(root):
    whole = NumpyLoader(root, "train", batch_size=7, epochs=2)
    loader = Loader(root, "train", batch_size=7)

    found = [*loader, *loader]

    assert all(isinstance(batch["x"], jax.Array) for batch in found)
    assert rows_of(found) == rows_of(whole)
    assert len(loader) == 8
    inputs, labels = next(iter(Loader(root, "train", batch_size=7, as_supervised=True)))
    assert (inputs.shape, labels.shape) == ((7, 2), (7,))


def test_a_sharding(root):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("rows",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))

    found = list(Loader(root, "train", batch_size=8, remainder="pad", sharding=sharding))

    assert rows_of(found) == rows_of(NumpyLoader(root, "train", batch_size=8, remainder="pad"))
    assert {batch["x"].sharding for batch in found} == {sharding}
    assert len(found[0]["x"].addressable_shards) == 4
    assert found[0]["mask"].addressable_shards[0].data.shape == (2,)


def test_strings_stay_on_the_host(tmp_path):
    ragged.write(tmp_path / "out", [ragged.lengths_of(9)])
    (plain,) = NumpyLoader(tmp_path / "out", "train", batch_size=9)

    (batch,) = Loader(tmp_path / "out", "train", batch_size=9)

    assert batch["s"].tolist() == plain["s"].tolist()
    np.testing.assert_array_equal(batch["v"], plain["v"])


def test_a_state_at_every_step_counts_what_was_yielded(root):
    whole = rows_of(NumpyLoader(root, "train", batch_size=7, epochs=4))
    loader = Loader(root, "train", batch_size=7, epochs=2)
    states = [loader.state_dict()]
    copies = [pickle.loads(pickle.dumps(loader))]
    for _ in loader:
        states.append(loader.state_dict())
        copies.append(pickle.loads(pickle.dumps(loader)))

    assert len(states) == 17
    assert loader.epoch == 2
    for step, (state, copied) in enumerate(zip(states, copies, strict=True)):
        restored = Loader(root, "train", batch_size=7, epochs=2)
        restored.load_state_dict(state)
        assert rows_of(copied) == whole[step:16]
        assert rows_of(restored) == whole[step:16]
        assert rows_of(restored) == whole[16:]


def test_an_iteration_that_was_left_counts(root):
    loader = Loader(root, "train", batch_size=7)
    next(iter(loader))

    assert rows_of(loader) == rows_of(NumpyLoader(root, "train", batch_size=7, epochs=2))[8:]
