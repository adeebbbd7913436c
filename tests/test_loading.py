"""The scripts of docs/loading.md run, and one that is killed and started again gives the same weights."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import loaders
from loaders import order
from tests import shards

ROOT = pathlib.Path(__file__).parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/loading.md").read_text(), re.MULTILINE | re.DOTALL)
NEEDS = {"torch": ("torch", "torchdata"), "jax": ("jax",)}

# Ends the process, or a worker of it, where the n-th batch would be made.
KILL = """
import os
from loaders.numpy import Loader as _Loader
_finish, _left = _Loader._finish, [{batches}]
def _kill(self, columns):
    _left[0] -= 1
    return _finish(self, columns) if _left[0] else os._exit(9)
_Loader._finish = _kill
"""

# Where the n-th batch is counted: by the loader, or by what Keras tells it.
KILL_TENSORFLOW = """
import os
from loaders import cursor as _cursor, loader as _loader
_after, _left = _cursor.after, [{batches}]
def _kill(*args):
    _left[0] -= 1
    return _after(*args) if _left[0] else os._exit(9)
_cursor.after = _loader.after = _kill
"""


def script(name):
    (text,) = (block for block in BLOCKS if block.startswith(f"# train_{name}.py"))
    return text


def write_dataset(root):
    """Rows like those of the README, 3,000 to train and 600 to test, in two shards each."""
    generator = np.random.default_rng(0)

    def part(rows):
        labels = generator.integers(0, 4, rows)
        features = generator.normal(size=(rows, 16)).astype(np.float32)
        features[np.arange(rows), labels] += 4
        return {"features": features, "labels": labels}

    splits = {"train": [part(1800), part(1200)], "test": [part(300), part(300)]}
    specs = shards.specs(splits["test"][0], {"labels": "label"})
    shards.write(root / "dataset", splits, rows_per_record=100, features=specs)


def run(text, directory):
    directory.mkdir(exist_ok=True)
    if not (directory / "dataset").exists():
        write_dataset(directory)
    (directory / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "script.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(directory), "JAX_PLATFORMS": "cpu"},
    )


def test_the_short_blocks_run(tmp_path):
    blocks = [block for block in BLOCKS if not block.startswith("# train_")]
    assert len(blocks) == 2
    for block, expected in zip(blocks, ("hosts True\n", "rows 3000 (16,) (10,) ["), strict=True):
        done = run(block, tmp_path / "run")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numpy", "tensorflow", "keras", "torch", "jax"])
def test_a_training_that_was_killed_gives_the_same_weights(tmp_path, name):
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    whole = run(script(name), tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert float(whole.stdout.removeprefix("accuracy ")) > 0.95

    # Of 72 batches, or of a worker's share of them.
    most = 36 if name == "torch" else 72
    draws = np.random.default_rng(order.text_key(name))
    first = int(draws.integers(2, most - 4))
    for batches in (first, int(draws.integers(1, most - first - 2))):
        kill = KILL_TENSORFLOW if name in ("tensorflow", "keras") else KILL
        killed = run(kill.format(batches=batches) + script(name), tmp_path / "killed")
        assert killed.returncode == (1 if name == "torch" else 9), killed.stderr  # a worker's end is an error
    resumed = run(script(name), tmp_path / "killed")

    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == whole.stdout
    assert weights(tmp_path / "killed", name).tobytes() == weights(tmp_path / "whole", name).tobytes()


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
def test_a_file_system_that_tensorflow_does_not_know(kind):
    with pytest.raises(
        loaders.ManifestError, match=r"unknown://bucket/out/manifest\.json: expected a file system .* copy"
    ):
        kind("unknown://bucket/out", "train", batch_size=2)
