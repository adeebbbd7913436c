"""Data sets whose shards hold raw values: the loader applies the transform."""

import json

import numpy as np
import pytest
import tensorflow as tf

import loaders
from loaders.format.manifest import ManifestError
from loaders.format.spec import FeatureSpec
from tests.support import shards
from tests.support.bits import assert_same_bits
from tests.support.raw_features import (
    COUNT,
    FIXED,
    TRANSFORMED,
    VARIABLE,
    by_hand,
    check,
    make_rows,
    write,
)


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


@pytest.mark.parametrize("name", ["done", "half", "half_missing", "image", "label", "plain", "wide", "words"])
def test_one_feature_is_made_of_its_own_source_alone(tmp_path, name):
    write(tmp_path, FIXED + VARIABLE)
    whole = loaders.load(tmp_path, "train", batch_size=4, shuffle=False)
    loader = loaders.Loader(tmp_path, "train", batch_size=4, shuffle=False, features=[name])

    assert [feature.name for feature in loader._assembly.features] == [name.removesuffix("_missing")]
    for found, expected in zip(loader, whole, strict=True):
        assert set(found) == {name}
        assert_same_bits(found[name].numpy(), expected[name].numpy())
