"""Shards that were swapped, or built again, are an error, though each of their records is right."""

import os

import numpy as np
import pytest

from loaders import FeatureSpec
from loaders import numpy as numpy_loader
from loaders.storage import shard_identity, store
from loaders.storage.store import ShardError
from tests.support import shards

OTHER = r"train-0000\d.tfrecord: expected the shard that manifest.json lists, of CRC-32C [0-9a-f]{8}; found another one"


def write(root, *, vary, seed=0, count=3):
    """Shards of one size."""
    random = np.random.default_rng(seed)
    parts = [{"x": random.random((12, 2))} for _ in range(count)]
    if vary:
        for rows in parts:
            rows["s"] = np.array([b"a" * (row % 5) for row in range(12)], dtype=object)
    features = [FeatureSpec(name="x", dtype="float64", shape=(2,))]
    features += [FeatureSpec(name="s", dtype="string", shape=())] * vary
    shards.write(root, {"train": parts}, rows_per_record=4, features=features, chunk_records=1 if vary else None)
    return root


def swap(root):
    first, second = (root / f"train/train-0000{number}.tfrecord" for number in (0, 2))
    first.rename(root / "other")
    second.rename(first)
    (root / "other").rename(second)


def read(root, **options):
    return list(numpy_loader.Loader(root, "train", batch_size=5, shuffle=False, **options))


@pytest.fixture(params=["small", "large records"])
def large(request, monkeypatch):
    """Both ways in which the checksum of a file is found."""
    if request.param == "large records":
        monkeypatch.setattr(shard_identity, "SPARSE_BYTES", 1)
        monkeypatch.setattr(shard_identity, "SMALL_BYTES", 0)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize("options", [{}, {"in_memory": True}, {"cache_dir": "cache"}], ids=str)
def test_swapped_shards_of_one_size_are_found(tmp_path, vary, options, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write(tmp_path / "out", vary=vary)
    assert len(read(root, **options)) == 8
    swap(root)
    if "cache_dir" in options:
        options = {"cache_dir": "another"}
    with pytest.raises(ShardError, match=OTHER):
        read(root, **options)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("vary", [False, True])
def test_what_is_built_again_under_a_loader_is_not_mixed_with_what_was(tmp_path, vary, monkeypatch):
    root, again = write(tmp_path / "out", vary=vary), write(tmp_path / "again", vary=vary, seed=1)
    monkeypatch.setattr(store, "OPEN_FILES", 1)
    loader = numpy_loader.Loader(root, "train", batch_size=5, shuffle=False)
    assert len(list(loader)) == 8
    for path in again.glob("train/*"):
        os.replace(path, root / "train" / path.name)
    with pytest.raises(ShardError, match=OTHER):
        list(loader)


def test_the_rows_of_another_shard_can_be_left_out(tmp_path):
    root = write(tmp_path / "out", vary=False)
    swap(root)
    loader = numpy_loader.Loader(root, "train", batch_size=36, shuffle=False, remainder="pad", on_corrupt="skip")
    (batch,) = loader
    assert batch["mask"].sum() == 12
    assert {record.file[-14:] for record in loader.skipped} == {"00000.tfrecord", "00002.tfrecord"}


def test_a_file_is_looked_at_once(tmp_path, monkeypatch):
    root = write(tmp_path / "out", vary=False)
    read(root)
    monkeypatch.setattr(shard_identity, "_actual", None)
    assert len(read(root)) == 8


@pytest.mark.parametrize("around", [0, 1 << 17])
def test_pages_between_the_checksums_of_large_records_are_not_read(tmp_path, monkeypatch, around):
    root, found = write(tmp_path / "out", vary=False), []
    monkeypatch.setattr(shard_identity, "AROUND_BYTES", around)
    monkeypatch.setattr(store.Store, "find_pages", lambda self, shard: found.append(shard))
    read(root)
    assert found == ([0, 1, 2] if around else [])
