"""`in_memory=True`: the same batches in the same order, and no file is read again."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import loaders
from loaders import Loader, augment
from loaders.format.spec import FeatureSpec
from loaders.storage.store import ShardError
from tests.support import examples, shards
from tests.support.batches import arrays, assert_same, break_record
from tests.support.numbered import small_chunks, write_numbered


def batches_of(dataset):
    """Batches as NumPy arrays, ragged tensors as lists of rows."""
    return [
        tf.nest.map_structure(lambda x: x.to_list() if isinstance(x, tf.RaggedTensor) else x.numpy().tolist(), batch)
        for batch in dataset
    ]


@pytest.mark.slow
@settings(max_examples=examples(10))
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    rows_per_record=st.integers(1, 4),
    shuffle=st.booleans(),
    drop_remainder=st.booleans(),
    data=st.data(),
)
def test_the_same_batches(tmp_path_factory, counts, rows_per_record, shuffle, drop_remainder, data):
    out = tmp_path_factory.mktemp("data") / "out"
    rows = sum(counts)
    if not rows:
        counts, rows = [3], 3
    write_numbered(out, counts, rows_per_record=rows_per_record)
    first, second = sorted(data.draw(st.lists(st.integers(0, rows - 1), min_size=2, max_size=2)))
    split = data.draw(st.sampled_from(["train", f"train[:{first + 1}]+train[{second + 1}:]"]))
    options = {"batch_size": 7, "shuffle": shuffle, "drop_remainder": drop_remainder, "seed": 3, "epochs": 2}
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, chunk_bytes=data.draw(st.integers(1, 600)), window_bytes=data.draw(st.integers(1, 800)))
        expected = loaders.load(out, split, **options)
        found = loaders.load(out, split, in_memory=True, **options)
        assert found.element_spec == expected.element_spec
        assert found.cardinality() == expected.cardinality()
        # Each dataset is iterated twice: four epochs.
        assert batches_of(found) + batches_of(found) == batches_of(expected) + batches_of(expected)


def test_no_file_is_read_again(root):
    expected = batches_of(loaders.load(root, "train", batch_size=5, epochs=3))
    found = loaders.load(root, "train", batch_size=5, epochs=3, in_memory=True)
    loader = Loader(root, "train", batch_size=5, epochs=1, in_memory=True)
    next(iter(loader))
    loader.load_state_dict(Loader(root, "train", batch_size=5).state_dict())
    shutil.rmtree(root)
    assert batches_of(found) == expected
    assert [batch for _ in range(3) for batch in batches_of(loader)] == expected


@pytest.mark.parametrize("form", ["padded", "ragged"])
@pytest.mark.parametrize("boundaries", [None, [2, 4]])
def test_rows_of_varying_length(ragged_root, form, boundaries):
    options = {"batch_size": 6, "ragged": form, "bucket_boundaries": boundaries, "epochs": 2}
    features = loaders.open(ragged_root).features
    if boundaries:
        options["bucket_by"] = next(feature.name for feature in features.values() if feature.ragged)
    expected = loaders.load(ragged_root, "train", **options)
    assert batches_of(loaders.load(ragged_root, "train", in_memory=True, **options)) == batches_of(expected)


def test_every_dtype_and_roles(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        name: rng.integers(0, 2, (11, 3)).astype(name)
        for name in ("bool", "uint8", "uint16", "uint32", "uint64", "int64", "float16", "float64", "complex64")
    }
    columns["int64"] -= 2  # varints of one length
    columns["y"] = np.arange(11) - 100
    text = FeatureSpec(name="text", dtype="string", shape=(), role="input")
    features = tuple(sorted((*shards.specs(columns, {"y": "label"}), text), key=lambda feature: feature.name))
    columns["text"] = np.array([f"row {n:2}".encode() for n in range(11)])
    shards.write(tmp_path / "out", {"train": [columns]}, rows_per_record=1, features=features, chunk_records=2)
    for supervised in (False, True):
        options = {"batch_size": 4, "as_supervised": supervised, "map_fn": lambda *batch: (batch, 1)}
        found = loaders.load(tmp_path / "out", "train", in_memory=True, **options)
        assert batches_of(found) == batches_of(loaders.load(tmp_path / "out", "train", **options))


@pytest.mark.slow
@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
@pytest.mark.parametrize("augmented", [False, True])
def test_loaders_resume_from_memory(root, streams, remainder, augmented):
    options = {"batch_size": 6, "streams": streams, "remainder": remainder, "epochs": 2, "seed": 5}
    if augmented:
        options["augment"] = [augment.Noise(features="x", deviation=0.5)]
    expected = arrays(Loader(root, "train", **options))
    loader = Loader(root, "train", in_memory=True, **options)
    iterator = iter(loader)
    found = [{name: value.numpy() for name, value in next(iterator).items()} for _ in range(4)]
    other = Loader(root, "train", in_memory=True, **options)
    other.load_state_dict(loader.state_dict())
    assert_same(found + arrays(other), expected)


def test_what_is_damaged_is_left_out(tmp_path):
    manifest = write_numbered(tmp_path / "out", [40, 41, 29], rows_per_record=4)
    break_record(tmp_path / "out", manifest, 1, 3, at=manifest.record_bytes - 6)
    options = {"batch_size": 8, "remainder": "pad", "on_corrupt": "skip", "epochs": 2}
    loader = Loader(tmp_path / "out", "train", in_memory=True, **options)
    assert_same(arrays(loader), arrays(Loader(tmp_path / "out", "train", **options)))
    assert len(loader.skipped) == 1
    with pytest.raises(ShardError, match="record 3: expected"):
        loaders.load(tmp_path / "out", "train", batch_size=8, in_memory=True)
