"""`loaders.Loader` with parts of splits, chosen features and augmentations, against `loaders.numpy.Loader`."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import loaders
from loaders import Loader, ShardOptions, augment
from loaders import numpy as numpy_loader
from loaders.order.split_slices import fold
from tests.support import examples, shards
from tests.support.batches import arrays, assert_same
from tests.support.numbered import numbers, small_chunks, write_numbered

# Parts of splits.


@pytest.mark.slow
@settings(max_examples=examples(12))
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    rows_per_record=st.integers(1, 4),
    streams=st.sampled_from([1, 2, 4]),
    shuffle=st.booleans(),
    remainder=st.sampled_from(["keep", "drop", "pad"]),
    data=st.data(),
)
def test_parts_are_those_of_the_numpy_loader(
    tmp_path_factory, counts, rows_per_record, streams, shuffle, remainder, data
):
    out = tmp_path_factory.mktemp("data") / "out"
    rows = sum(counts)
    if not rows:
        counts, rows = [3], 3
    write_numbered(out, counts, rows_per_record=rows_per_record)
    bounds = sorted(data.draw(st.lists(st.integers(0, rows), min_size=2, max_size=6, unique=True)))
    terms = [f"train[{start}:{stop}]" for start, stop in zip(bounds[::2], bounds[1::2], strict=False)]
    options = {
        "split": "+".join(terms),
        "batch_size": 2 * streams,
        "streams": streams,
        "shuffle": shuffle,
        "seed": data.draw(st.integers(0, 100)),
        "remainder": remainder,
        "epochs": 2,
    }
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, chunk_bytes=data.draw(st.integers(1, 600)), window_bytes=data.draw(st.integers(1, 800)))
        loader, other = Loader(out, **options), numpy_loader.Loader(out, **options)
        assert_same(arrays(loader), list(other))
        assert loader.state_dict() == other.state_dict()
        saved = other.state_dict() | {"epoch": 1, "rows": data.draw(st.integers(0, rows // streams))}
        loader.load_state_dict(saved)
        other.load_state_dict(saved)
        assert_same(arrays(loader), list(other))
        if remainder == "keep" and streams == 1:
            given_ = {name: options[name] for name in ("batch_size", "shuffle", "seed", "epochs")}
            assert_same(
                arrays(loaders.load(out, options["split"], **given_)), list(numpy_loader.Loader(out, **options))
            )


def test_parts_of_ragged_rows_and_of_several_splits(ragged_root, tmp_path):
    for split in ("train[7:31]+train[40:]", "train[1/3:2/3]"):
        options = {"batch_size": 5, "seed": 2, "epochs": 2}
        assert_same(
            arrays(Loader(ragged_root, split, **options)), list(numpy_loader.Loader(ragged_root, split, **options))
        )
    rows = {"x": np.arange(20.0, dtype="f4").reshape(10, 2)}
    shards.write(tmp_path / "out", {"a": [rows], "b": [rows]}, rows_per_record=3, features=shards.specs(rows))
    both = [kind(tmp_path / "out", "b[:4]+a[5:]", batch_size=3) for kind in (Loader, numpy_loader.Loader)]
    assert_same(arrays(both[0]), list(both[1]))


def test_folds_are_disjoint_and_whole(root):
    found = []
    for number in (1, 2, 3):
        training, validation = fold("train", number, of=3)
        own = numbers(Loader(root, validation, batch_size=10))
        assert sorted(own + numbers(Loader(root, training, batch_size=10))) == list(range(53))
        found += own
    assert sorted(found) == list(range(53))


def test_features_are_chosen(root, ragged_root):
    assert [set(batch) for batch in Loader(root, "train", batch_size=40, features=["x"])] == [{"x"}] * 2
    for features in (["v"], ["s"], ["v", "s"]):
        options = {"batch_size": 10, "features": features}
        assert_same(
            arrays(Loader(ragged_root, "train", **options)), list(numpy_loader.Loader(ragged_root, "train", **options))
        )


# Augmentations.


@pytest.fixture
def images(tmp_path):
    """A data set of 60 small images, spectra, texts and labels."""
    hashes = np.random.default_rng(5)
    rows = {
        "image": hashes.integers(0, 256, (60, 8, 9, 3), dtype=np.uint8),
        "area": hashes.integers(0, 2, (60, 8, 9), dtype=np.uint8),
        "spectrum": hashes.normal(size=(60, 5)).astype("f4"),
        "label": hashes.integers(0, 4, 60),
    }
    rows["label"] = -1 - rows["label"]  # varints of one length
    parts = [{name: values[start : start + 23] for name, values in rows.items()} for start in (0, 23, 46)]
    shards.write(tmp_path / "out", {"train": parts}, rows_per_record=4, features=shards.specs(rows, {"label": "label"}))
    return tmp_path / "out"


def positive(batch, rng):
    return batch | {"label": -1 - batch["label"], "twice": rng.uniform("twice", 2).astype("f4")}


def halved(batch, rng):
    batch["spectrum"] /= 2  # in place, which must not reach what TensorFlow holds
    return batch


SETS = {
    "FlipLeftRight": [augment.FlipLeftRight(features=("image", "area"))],
    "FlipUpDown": [augment.FlipUpDown(features="image")],
    "RandomCrop": [augment.RandomCrop(features=("image", "area"), size=(6, 7), padding=1)],
    "Brightness": [augment.Brightness(features="image", delta=30.0)],
    "Contrast": [augment.Contrast(features="image")],
    "Noise": [augment.Noise(features="spectrum", deviation=0.1)],
    "BandDropout": [augment.BandDropout(features="spectrum", probability=0.4)],
    "MixUp": [positive, augment.MixUp(features="spectrum", labels="label", classes=4)],
    "CutMix": [positive, augment.CutMix(features="image", labels="label", classes=4)],
    "a function": [halved, positive, augment.Noise(features="image", deviation=9.0)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_augmentations_are_those_of_the_numpy_loader(images, monkeypatch, name):
    small_chunks(monkeypatch, chunk_bytes=3000, window_bytes=6000)
    for options in (
        {"batch_size": 7, "epochs": 2},
        {"batch_size": 8, "streams": 4, "shard": ShardOptions(index=1, count=2), "remainder": "pad"},
    ):
        loader, other = (
            kind(images, "train[3:]", augment=SETS[name], seed=4, **options) for kind in (Loader, numpy_loader.Loader)
        )
        expected = list(other)
        assert_same(arrays(loader), expected)
        state = other.state_dict() | {"epoch": 0, "rows": options["batch_size"] // options.get("streams", 1)}
        loader.load_state_dict(json.loads(json.dumps(state)))
        assert_same(arrays(loader), expected[1:])
        plain = numpy_loader.Loader(images, "train[3:]", seed=4, **options)
        assert any(
            set(first) != set(second) or any(not np.array_equal(first[key], second[key]) for key in first)
            for first, second in zip(expected, plain, strict=True)
        )


def test_the_shapes_of_augmented_batches_are_known(images):
    crop = augment.RandomCrop(features="image", size=(6, 7))
    spec = Loader(images, "train", batch_size=7, augment=[crop], as_supervised=True).dataset().element_spec
    padded = Loader(images, "train", batch_size=7, augment=[crop], remainder="pad").dataset().element_spec

    assert spec[0]["image"] == tf.TensorSpec([None, 6, 7, 3], tf.uint8)
    assert spec[1] == tf.TensorSpec([None], tf.int64)
    assert padded["image"] == tf.TensorSpec([7, 6, 7, 3], tf.uint8)
    assert padded["mask"].dtype == tf.bool


def test_augmented_ragged_rows(ragged_root):
    def louder(batch, rng):
        return batch | {"v": batch["v"] * (1 + rng.uniform("gain"))[:, None, None].astype(batch["v"].dtype)}

    for remainder in ("keep", "pad"):
        options = {"batch_size": 9, "augment": [louder], "remainder": remainder}
        batches = arrays(Loader(ragged_root, "train", **options))
        assert_same(batches, list(numpy_loader.Loader(ragged_root, "train", **options)))
    with pytest.raises(ValueError, match="v: augment expects ragged='padded'; found a RaggedTensor"):
        Loader(ragged_root, "train", batch_size=9, augment=[louder], ragged="ragged").dataset()


def test_an_augmentation_that_does_not_fit_is_named(images):
    with pytest.raises(ValueError, match="augment: MixUp: expected floats as label, or numbers with `classes`"):
        Loader(images, "train", batch_size=7, augment=[augment.MixUp(features="image", labels="label")]).dataset()
