"""Batches of data that were sorted by class have the class counts of a true permutation."""

import itertools

import numpy as np
import pytest

from loaders.diagnostics.shuffle_quality import compare_epoch
from loaders.order.class_mixing import compare_labels
from tests.support import shards
from tests.support.arrays import write_files
from tests.support.builds import make
from tests.support.numbered import small_chunks

ROWS, CLASSES = 20_000, 10


@pytest.mark.parametrize(
    ("labels", "batch_size"), [([0, 0, 1, 1, 1, 2], 2), ([0, 1, 1, 1, 1, 1, 2], 3), ([0, 0, 1, 1], 2)]
)
def test_mean_and_deviation_are_those_of_all_permutations(labels, batch_size):
    expected = np.bincount(labels) / len(labels)
    ends = [*range(batch_size, len(labels) - batch_size + 1, batch_size), len(labels)]

    def by_hand(order):
        tables = [np.bincount(part, minlength=len(expected)) for part in np.split(np.array(order), ends[:-1])]
        return sum(((table - table.sum() * expected) ** 2 / (table.sum() * expected)).sum() for table in tables)

    values = [by_hand(order) for order in itertools.permutations(labels)]
    found = compare_labels(np.array(labels), batch_size=batch_size)

    assert found.chi_square == pytest.approx(by_hand(labels))
    assert (found.expected, found.deviation) == pytest.approx((np.mean(values), np.std(values)))
    assert (found.batches, found.classes) == (len(ends), len(expected))


@pytest.mark.parametrize("batch_size", [30, 400])
def test_p_is_how_often_a_permutation_is_as_uneven(batch_size):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 1000) ** 2
    p = np.array([compare_labels(generator.permutation(labels), batch_size=batch_size).p for _ in range(2000)])

    for level in (0.01, 0.1, 0.5, 0.9):
        assert abs((p < level).mean() - level) < 4 * np.sqrt(level * (1 - level) / len(p)) + 0.1 * level


def test_it_tells_what_is_too_even_and_too_uneven_from_chance():
    labels = np.repeat(np.arange(CLASSES), 200)

    sorted_by_class = compare_labels(labels, batch_size=50)
    assert sorted_by_class.z > 100
    assert not sorted_by_class.like_chance
    in_turns = compare_labels(labels.reshape(CLASSES, -1).T.ravel(), batch_size=50)
    assert in_turns.z < -10
    assert in_turns.p > 0.9999
    assert in_turns.like_chance


@pytest.mark.slow
def test_sources_that_were_sorted_by_class(tmp_path, monkeypatch):
    # Shards of 100 chunks together, of which a window has 32, as with chunks of 1 MiB and windows of 32 MiB.
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), ROWS // CLASSES)
    values = np.random.default_rng(0).random((ROWS, 4), np.float32)
    source = write_files(tmp_path / "in", {"labels.npy": labels, "x.npy": values})
    features = {"labels": {"role": "label"}}
    make(source, tmp_path / "out", features=features, splits={"train": 1.0}, rows_per_record=20, seed=1)
    small_chunks(monkeypatch, chunk_bytes=200 * 20, window_bytes=6400 * 20)

    found = [
        compare_epoch(tmp_path / "out", "train", label="labels", batch_size=64, seed=2, epoch=epoch)
        for epoch in range(3)
    ]

    assert max(abs(one.z) for one in found) < 4
    assert all(one.like_chance for one in found)
    assert len({one.chi_square for one in found}) > 1


def test_shards_that_are_sorted_by_class(tmp_path, monkeypatch):
    # The loader alone mixes a window of chunks: better than stored, and short of a permutation.
    rows = {"y": np.repeat(np.arange(CLASSES, dtype=np.int32), ROWS // CLASSES)}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=20, features=shards.specs(rows, {"y": "label"}))
    small_chunks(monkeypatch, chunk_bytes=200 * 5, window_bytes=6400 * 4)

    found = compare_epoch(tmp_path / "out", "train", label="y", batch_size=64)

    assert 4 < found.z < compare_labels(rows["y"], batch_size=64).z / 10
    assert not found.like_chance


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(100), "expected two batches and two classes; found 16 and 1"),
        (np.arange(2).repeat(5), "expected two batches and two classes; found 1 and 2"),
        (np.arange(60), "expected classes and batches of several rows; found 60 classes of 60 rows"),
    ],
)
def test_what_cannot_be_compared_is_named(labels, message):
    with pytest.raises(ValueError, match=message):
        compare_labels(labels, batch_size=6)
