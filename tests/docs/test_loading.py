"""The scripts of how-tos run, and one that is killed and started again gives the same weights."""

import pathlib

import numpy as np
import pytest

import loaders
from loaders.order import hashing
from tests.support.scripts import KILL, KILL_TENSORFLOW, run, script

ROOT = pathlib.Path(__file__).parents[2]
NEEDS = {"torch": ("torch", "torchdata"), "jax": ("jax",)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numpy", "tensorflow", "keras", "torch", "jax"])
def test_a_training_that_was_killed_gives_the_same_weights(tmp_path, name):
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    imported = name in ("tensorflow", "keras")
    whole = run(script(name), tmp_path / "whole", imported=imported)
    assert whole.returncode == 0, whole.stderr
    assert float(whole.stdout.removeprefix("accuracy ")) > 0.95

    # Of 72 batches, or of a worker's share of them.
    most = 36 if name == "torch" else 72
    draws = np.random.default_rng(hashing.text_key(name))
    first = int(draws.integers(2, most - 4))
    for batches in (first, int(draws.integers(1, most - first - 2))):
        kill = KILL_TENSORFLOW if imported else KILL
        killed = run(kill.format(batches=batches) + script(name), tmp_path / "killed", imported=imported)
        assert killed.returncode == (1 if name == "torch" else 9), killed.stderr  # a worker's end is an error
    resumed = run(script(name), tmp_path / "killed", imported=imported)

    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == whole.stdout
    assert weights(tmp_path / "killed", name).tobytes() == weights(tmp_path / "whole", name).tobytes()


@pytest.mark.slow
def test_grain_reads_batches_of_rows(tmp_path):
    pytest.importorskip("grain")
    done = run(script("grain"), tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "grain 71 (128, 16) True\nsame True\n"


def weights(directory, name):
    if name == "numpy":
        with np.load(directory / "numpy.npz") as checkpoint:
            return checkpoint["weights"]
    if name in ("tensorflow", "keras"):
        return np.frombuffer((directory / "weights.bin").read_bytes(), np.float32)
    if name == "jax":
        import pickle

        return pickle.loads((directory / "jax.pickle").read_bytes())[0]
    import torch

    return torch.load(directory / "torch.pt")["model"]["weight"].numpy()


@pytest.mark.parametrize("kind", [loaders.load, loaders.Loader, loaders.numpy.Loader])
def test_a_file_system_that_fsspec_does_not_know(kind):
    with pytest.raises(
        loaders.ManifestError,
        match=r"unknown://bucket/out/manifest\.json: expected a file system that fsspec reads; found",
    ):
        kind("unknown://bucket/out", "train", batch_size=2)
