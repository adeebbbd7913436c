"""Data sets whose shards hold raw values: the loader applies the transform."""

import json

import numpy as np
import pytest
import tensorflow as tf

import loaders
from loaders.manifest import ManifestError
from loaders.spec import FeatureSpec
from tests import shards
from tests.test_decode import assert_same_bits

COUNT = 11


def save_transform(root):
    """A SavedModel in the style of tf.transform's: a dict of raw tensors to a dict of transformed ones."""
    specs = {
        "image": tf.TensorSpec([None, 2, 3], tf.uint8),
        "half": tf.TensorSpec([None, 2], tf.float32),
        "wide": tf.TensorSpec([None], tf.float64),
        "words": tf.TensorSpec([None], tf.string),
        "steps": tf.TensorSpec([None, 2], tf.float32),
        "done": tf.TensorSpec([None, 4], tf.float64),
    }

    @tf.function(input_signature=[specs])
    def transform_fn(inputs):
        return {
            # A plain division by a constant becomes a product in a tf.function, but not in tf.data.
            "image": tf.math.divide_no_nan(tf.cast(inputs["image"], tf.float32) - 7.0, 3.0),
            "half": inputs["half"] * 3.0,
            "half_missing": tf.cast(inputs["half"] < 0, tf.int64),
            "wide/float64_bits": tf.bitcast(tf.math.divide_no_nan(inputs["wide"], 3.0), tf.int64),
            "words": tf.strings.to_hash_bucket_fast(inputs["words"], 10),
            "steps": inputs["steps"] + 1.0,
            "steps_missing": tf.cast(inputs["steps"] > 0, tf.int64),
            "done": tf.cast(inputs["done"] * 0.0, tf.float32),
        }

    module = tf.Module()
    module.transform_fn = transform_fn
    tf.saved_model.save(module, str(root / "transform" / "transform_fn"))


FIXED = (
    FeatureSpec(name="done", dtype="float32", shape=(2,)),
    FeatureSpec(name="half", dtype="float16", shape=(2,)),
    FeatureSpec(name="image", dtype="uint8", shape=(2, 3)),
    FeatureSpec(name="label", dtype="int64", shape=(), role="label"),
    FeatureSpec(name="plain", dtype="uint8", shape=()),
    FeatureSpec(name="wide", dtype="float64", shape=()),
)
VARIABLE = (
    FeatureSpec(name="steps", dtype="float32", shape=(None, 2)),
    FeatureSpec(name="words", dtype="string", shape=()),
)
RAW = ("half", "image", "plain", "wide", "steps", "words")
TRANSFORMED = {
    "half": (FeatureSpec(name="half", dtype="float16", shape=(2,)),),
    "image": (FeatureSpec(name="image", dtype="float32", shape=(2, 3)),),
    "plain": (FeatureSpec(name="plain", dtype="float32", shape=()),),
    "wide": (FeatureSpec(name="wide", dtype="float64", shape=()),),
    "steps": (
        FeatureSpec(name="steps", dtype="float32", shape=(None, 2)),
        FeatureSpec(name="steps_missing", dtype="bool", shape=(None, 2)),
    ),
    "words": (FeatureSpec(name="words", dtype="int32", shape=(), role="id"),),
}
INDICATOR = FeatureSpec(name="half_missing", dtype="bool", shape=(2,))


def make_rows():
    rng = np.random.default_rng(0)
    return {
        "done": rng.normal(size=(COUNT, 2)).astype(np.float32),
        "half": rng.normal(size=(COUNT, 2)).astype(np.float16),
        "image": rng.integers(0, 256, (COUNT, 2, 3)).astype(np.uint8),
        "label": np.arange(COUNT) - 1_000_000,
        "plain": np.arange(COUNT, dtype=np.uint8),
        "wide": rng.normal(size=COUNT),
        "steps": [rng.normal(size=(n % 4, 2)).astype(np.float32) for n in range(COUNT)],
        "words": np.array([f"word {n}".encode() for n in range(COUNT)]),
    }


def write(root, features, *, raw=RAW):
    save_transform(root)
    transformed = [INDICATOR, *(spec for f in features for spec in (TRANSFORMED[f.name] if f.name in raw else (f,)))]
    return shards.write(
        root,
        {"train": [make_rows()]},
        rows_per_record=3,
        features=features,
        chunk_records=2 if any(feature.variable for feature in features) else None,
        transform="transform",
        transformed=tuple(sorted(transformed, key=lambda spec: spec.name)),
        config={"features": {f.name: {"store": "raw" if f.name in raw else "transformed"} for f in features}},
    )


def by_hand():
    """What the rows are after the transform."""
    rows = make_rows()
    steps = rows["steps"]
    words = tf.strings.to_hash_bucket_fast(rows["words"], 10).numpy()
    return rows | {
        "half": (rows["half"].astype(np.float32) * np.float32(3)).astype(np.float16),
        "half_missing": rows["half"] < 0,
        "image": (rows["image"].astype(np.float32) - np.float32(7)) / np.float32(3),
        "plain": rows["plain"].astype(np.float32),
        "wide": rows["wide"] / 3.0,
        "steps": [row + np.float32(1) for row in steps],
        "steps_missing": [row > 0 for row in steps],
        "words": words.astype(np.int32),
    }


def check(batch, expected, names):
    rows = np.asarray(batch["label"]) + 1_000_000
    assert set(batch) == set(names)
    for name in names:
        if name.endswith("_length"):
            lengths = [len(expected[name.removesuffix("_length")][row]) for row in rows]
            assert np.asarray(batch[name]).tolist() == lengths
        elif name.startswith("steps"):
            for place, row in enumerate(rows):
                values = np.asarray(batch[name][place])
                length = len(expected[name][row])
                assert_same_bits(values[:length], expected[name][row])
                assert not values[length:].any()
        else:
            assert_same_bits(batch[name], expected[name][rows])


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_transformed(tmp_path, shuffle):
    manifest = write(tmp_path, FIXED)
    names = [feature.name for feature in manifest.transformed]
    loaded = loaders.load(tmp_path, "train", batch_size=4, shuffle=shuffle)

    batches = list(loaded)

    assert sorted(int(n) for batch in batches for n in batch["label"] + 1_000_000) == list(range(COUNT))
    for batch in batches:
        check(batch, by_hand(), names)
    assert loaded.element_spec == {
        feature.name: tf.TensorSpec([None, *feature.shape], feature.dtype) for feature in manifest.transformed
    }
    assert int(loaded.cardinality()) == len(batches) == 3


def test_raw_batches_are_transformed_later(tmp_path):
    manifest = write(tmp_path, FIXED)
    found = loaders.open(tmp_path)
    names = [feature.name for feature in manifest.transformed]
    raw = found.load("train", batch_size=4, transform=False)

    assert raw.element_spec["image"] == tf.TensorSpec([None, 2, 3], tf.uint8)
    assert set(raw.element_spec) == {feature.name for feature in FIXED}
    for batch, expected in zip(raw, found.load("train", batch_size=4), strict=True):
        check(batch, make_rows(), [feature.name for feature in FIXED])
        transformed = found.transform(batch)
        check(transformed, by_hand(), names)
        for name in names:
            assert_same_bits(transformed[name], expected[name].numpy())
            assert "CPU" in transformed[name].device


@pytest.mark.parametrize("form", ["padded", "ragged"])
@pytest.mark.parametrize("later", [False, True])
def test_steps_of_varying_number_are_transformed_before_they_are_padded(tmp_path, form, later):
    manifest = write(tmp_path, (*FIXED, *VARIABLE))
    names = [feature.name for feature in manifest.transformed]
    if form == "padded":
        names += ["steps_length", "steps_missing_length"]
    loaded = loaders.load(tmp_path, "train", batch_size=4, ragged=form, transform=not later)
    transform = loaders.open(tmp_path).transform if later else (lambda batch: batch)

    for batch in loaded:
        check(transform(batch), by_hand(), names)
    if not later and form == "padded":
        assert loaded.element_spec["steps"] == tf.TensorSpec([None, None, 2], tf.float32)
        assert loaded.element_spec["words"] == tf.TensorSpec([None], tf.int32)


def test_buckets_of_raw_rows(tmp_path):
    write(tmp_path, (*FIXED, *VARIABLE))

    batches = list(loaders.load(tmp_path, "train", batch_size=2, bucket_boundaries=[1, 3]))

    assert {batch["steps"].shape[1] for batch in batches} == {1, 3}
    assert sum(len(batch["label"]) for batch in batches) == COUNT


def test_what_the_shards_hold_transformed_is_not_transformed_again(tmp_path):
    # `image` is stored as it is; the SavedModel would change it too.
    write(tmp_path, FIXED, raw=("half",))
    for batch in loaders.load(tmp_path, "train", batch_size=4):
        rows = batch["label"].numpy() + 1_000_000
        assert_same_bits(batch["image"], make_rows()["image"][rows])
        assert_same_bits(batch["half"], by_hand()["half"][rows])


def test_supervised_works_on_what_is_transformed(tmp_path):
    write(tmp_path, (*FIXED, *VARIABLE))
    inputs, label = next(iter(loaders.load(tmp_path, "train", batch_size=COUNT, as_supervised=True, shuffle=False)))

    check(inputs | {"label": label}, by_hand(), [*inputs, "label"])
    # `words` becomes an id.
    assert set(inputs) == {
        *("done", "half", "half_missing", "image", "plain", "wide"),
        *("steps", "steps_length", "steps_missing", "steps_missing_length"),
    }


def test_raw_alone_needs_no_saved_model(tmp_path):
    features = (FIXED[4],)
    shards.write(
        tmp_path,
        {"train": [make_rows()]},
        rows_per_record=3,
        features=features,
        transformed=TRANSFORMED["plain"],
        config={"features": {"plain": {"store": "raw"}}},
    )
    (batch,) = loaders.load(tmp_path, "train", batch_size=COUNT, shuffle=False)
    assert_same_bits(batch["plain"], by_hand()["plain"])


def test_a_data_set_that_is_transformed_has_no_transform_for_batches(tmp_path):
    rows = {"x": np.zeros((3, 2), np.float32)}
    shards.write(tmp_path, {"train": [rows]}, rows_per_record=3, features=shards.specs(rows))

    with pytest.raises(ManifestError, match="expected a data set with a feature of `store: raw`; found none"):
        _ = loaders.open(tmp_path).transform
    assert len(list(loaders.load(tmp_path, "train", batch_size=3))) == 1


def test_the_manifest_tells_what_a_batch_holds(tmp_path):
    write(tmp_path, FIXED)
    value = json.loads((tmp_path / "manifest.json").read_text())
    assert [feature["name"] for feature in value["transformed"]] == sorted(
        ["done", "half", "half_missing", "image", "label", "plain", "wide"]
    )


@pytest.mark.parametrize("raw", [True, False])
def test_an_indicator_is_padded_as_what_it_tells_of(tmp_path, raw):
    indicator = FeatureSpec(name="steps_missing", dtype="bool", shape=(None, 2))
    if raw:
        write(tmp_path, (*FIXED, *VARIABLE))
    else:
        rows = make_rows()
        rows["steps_missing"] = [row > 0 for row in rows["steps"]]
        features = (VARIABLE[0], indicator)
        shards.write(tmp_path, {"train": [rows]}, rows_per_record=3, features=features, chunk_records=2)
    for batch in loaders.load(tmp_path, "train", batch_size=2, bucket_boundaries=[2, 5], bucket_by="steps"):
        assert batch["steps"].shape[1] in (2, 5)
        assert batch["steps_missing"].shape == batch["steps"].shape
