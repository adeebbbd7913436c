"""Batches of data that were sorted by class have the class counts of a true permutation."""

import numpy as np
import pytest

from loaders.mixing import epoch_mixing, mixing
from tests import shards
from tests.arrays import write_files
from tests.test_build import make
from tests.test_dataset import small_chunks

ROWS, CLASSES = 20_000, 10


def test_the_mean_over_permutations_is_the_closed_form():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 1000) ** 2
    found = [mixing(generator.permutation(labels), batch_size=30, draws=20) for _ in range(300)]

    chi_squares = np.array([one.chi_square for one in found])
    assert abs(chi_squares.mean() - found[0].expected) < 4 * chi_squares.std() / np.sqrt(300)
    deviations = np.array([one.deviation for one in found])
    assert abs(deviations.mean() / chi_squares.std() - 1) < 0.2


def test_it_tells_what_is_too_even_and_too_uneven_from_chance():
    labels = np.repeat(np.arange(CLASSES), 200)

    assert mixing(labels, batch_size=50).z > 100
    assert mixing(labels.reshape(CLASSES, -1).T.ravel(), batch_size=50).z < -10
    chance = [mixing(np.random.default_rng(seed).permutation(labels), batch_size=50) for seed in range(20)]
    assert max(abs(one.z) for one in chance) < 4
    assert 0.2 < np.mean([one.p for one in chance]) < 0.8


def test_sources_that_were_sorted_by_class(tmp_path, monkeypatch):
    # Shards of 100 chunks together, of which a window has 32, as with chunks of 1 MiB and windows of 32 MiB.
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), ROWS // CLASSES)
    values = np.random.default_rng(0).random((ROWS, 4), np.float32)
    source = write_files(tmp_path / "in", {"labels.npy": labels, "x.npy": values})
    features = {"labels": {"role": "label"}}
    make(source, tmp_path / "out", features=features, splits={"train": 1.0}, rows_per_record=20, seed=1)
    small_chunks(monkeypatch, chunk_bytes=200 * 20, window_bytes=6400 * 20)

    found = [
        epoch_mixing(tmp_path / "out", "train", label="labels", batch_size=64, seed=2, epoch=epoch)
        for epoch in range(3)
    ]

    assert max(abs(one.z) for one in found) < 4
    assert len({one.chi_square for one in found}) > 1


def test_shards_that_are_sorted_by_class(tmp_path, monkeypatch):
    # The loader alone mixes a window of chunks: better than stored, and short of a permutation.
    rows = {"y": np.repeat(np.arange(CLASSES, dtype=np.int32), ROWS // CLASSES)}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=20, features=shards.specs(rows, {"y": "label"}))
    small_chunks(monkeypatch, chunk_bytes=200 * 5, window_bytes=6400 * 4)

    found = epoch_mixing(tmp_path / "out", "train", label="y", batch_size=64)

    assert 4 < found.z < mixing(rows["y"], batch_size=64).z / 10


@pytest.mark.parametrize("labels", [np.zeros(100), np.arange(2).repeat(5)])
def test_what_cannot_be_compared_is_named(labels):
    with pytest.raises(ValueError, match="expected two batches and two classes; found"):
        mixing(labels, batch_size=6)
