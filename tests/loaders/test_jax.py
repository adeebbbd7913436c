"""JAX: the same batches on a device, and states that count what was trained on."""

import pickle

import numpy as np
import pytest

from loaders.numpy import Loader as NumpyLoader
from tests.support import ragged, shards
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


def sharded(root, **options):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("rows",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    return Loader(root, "train", sharding=sharding, **options)


def plain_augment(batch, rng):
    return batch


@pytest.mark.parametrize("augment", [(), (plain_augment,)])
def test_what_a_sharding_cannot_cut_is_refused_when_made(root, augment):
    for options, found in (
        ({"batch_size": 8}, 5),  # 53 = 6 * 8 + 5
        ({"batch_size": 6, "remainder": "drop"}, 6),
    ):
        with pytest.raises(
            ValueError, match=rf"expected batches that the sharding can cut; found one of shape \[{found}"
        ):
            sharded(root, augment=augment, **options)
    assert len(list(sharded(root, batch_size=8, remainder="drop", augment=augment))) == 6
    assert len(list(Loader(root, "train", batch_size=8, sharding=jax.devices()[1], augment=augment))) == 7


def test_a_state_whose_last_batch_a_sharding_cannot_cut(root, tmp_path):
    write_numbered(tmp_path / "even", [40], rows_per_record=4)
    before = NumpyLoader(tmp_path / "even", "train", batch_size=5)
    next(iter(before))
    loader = sharded(tmp_path / "even", batch_size=8)
    with pytest.raises(ValueError, match=r"found one of shape \[3"):
        loader.load_state_dict(before.state_dict())


def wide_root(path, **columns):
    features = shards.specs(columns)
    shards.write(path, {"train": [columns]}, rows_per_record=2, features=features)
    return path


def test_values_that_jax_would_cut(tmp_path):
    """Without jax_enable_x64 there are no numbers of 64 bits."""
    real = wide_root(tmp_path / "real", r=np.array([0.1, 0.2]))
    with pytest.raises(
        ValueError, match=r"r: .*found float64\. To keep it, jax.config.*x64.*; to round it, narrow=True"
    ):
        Loader(real, "train", batch_size=2)
    (batch,) = Loader(real, "train", batch_size=2, narrow=True, shuffle=False)
    assert batch["r"].dtype == np.float32
    np.testing.assert_array_equal(batch["r"], np.float32([0.1, 0.2]))

    def widened(batch, rng):
        return {"n": batch["n"] * 0.5}

    small = wide_root(tmp_path / "small", n=np.array([-(2**31), 2**31 - 1]))
    (batch,) = Loader(small, "train", batch_size=2, shuffle=False)
    assert (batch["n"].dtype, batch["n"].tolist()) == (np.int32, [-(2**31), 2**31 - 1])
    with pytest.raises(ValueError, match=r"n: .*found float64"):
        list(Loader(small, "train", batch_size=2, augment=[widened]))
    large = wide_root(tmp_path / "large", n=np.array([1, 2**31]))
    for narrow in (False, True):
        with pytest.raises(
            ValueError, match=r"n: expected int32, which JAX makes of int64; found 2147483648\. To keep"
        ):
            list(Loader(large, "train", batch_size=2, narrow=narrow))
    with jax.enable_x64(True):
        (batch,) = Loader(large, "train", batch_size=2, shuffle=False)
        assert (batch["n"].dtype, batch["n"].tolist()) == (np.int64, [1, 2**31])
        (batch,) = Loader(real, "train", batch_size=2, shuffle=False)
        assert batch["r"].tolist() == [0.1, 0.2]


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
