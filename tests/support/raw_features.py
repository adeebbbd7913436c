"""Data sets whose shards hold raw features, beside a transform."""

import numpy as np
import tensorflow as tf

from loaders.format.spec import FeatureSpec
from tests.support import shards
from tests.support.bits import assert_same_bits
from tests.support.manifests import list_files

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
        files=list_files(root, "transform"),
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
