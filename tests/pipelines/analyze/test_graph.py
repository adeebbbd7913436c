"""The exported graph: what it takes and gives, and the vector of what was learned."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.analyze import graph as preprocessing
from tests.support.fitting import Exported, learn, packed_of, resolve, transform


def columns():
    random = np.random.default_rng(0)
    x = random.normal(size=(203, 4, 2)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan
    words = np.array([b"b", b"a", b"b"]).repeat(68)[:203]
    return {"x": x, "g": random.integers(-1, 3, 203), "w": words, "id": np.arange(203)}


def test_what_is_learned_is_packed_and_unpacked():
    said = {
        "x": {"by": "g", "indicator": True},
        "g": {"normalize": [{"scale": 2}, "robust", "log1p"]},
        "w": {"normalize": "vocabulary"},
        "id": {"missing": -1, "indicator": True, "impute": "none"},
    }
    config = resolve(columns(), said)
    known = learn(config, columns())
    features = config.transformed
    assert [f.name for f in features] == ["g", "id", "w", "x"]
    found = preprocessing.unpack(tf.constant(packed_of(config, known)), features)
    assert found["id"] == []
    for feature in features:
        for step, constants, tensors in zip(
            feature.steps, known[feature.name].constants, found[feature.name], strict=True
        ):
            names = {*step.constants, *(["keys"] if feature.by and step.constants else [])}
            assert set(tensors) == names
            for name in names:
                assert tensors[name].numpy().dtype == constants[name].dtype
                np.testing.assert_array_equal(tensors[name].numpy(), constants[name])
    kept = preprocessing.fitted_arrays(features, known)
    assert set(kept) == {
        *("g/1/shift", "g/1/divisor", "w/0/keys", "w/0/ids", "w/0/vocabulary"),
        *("x/impute/fill", "x/impute/keys", "x/0/shift", "x/0/divisor", "x/0/keys"),
    }
    np.testing.assert_array_equal(kept["w/0/vocabulary"], [b"b", b"a"])
    assert kept["x/0/shift"].shape == (5, 4, 2)


def test_several_features_share_one_vector():
    a, b = np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[[0.0], [4.0]], [[2.0], [1.0]]])
    found = transform({"a": a, "b": b}, {"b": {"over": "all", "normalize": "minmax"}})
    np.testing.assert_allclose(found["a"], [[-1, -1], [1, 1]])
    np.testing.assert_allclose(found["b"], b / 4)


@pytest.mark.parametrize(
    ("dtype", "said", "name", "output"),
    [
        ("float32", {}, "x", "float32"),
        ("float16", {}, "x", "float32"),
        ("float32", {"dtype": "float16"}, "x", "float32"),
        ("float64", {"normalize": "none"}, "x/float64_bits", "int64"),
        ("uint8", {"normalize": "zscore", "dtype": "float64"}, "x/float64_bits", "int64"),
        ("int16", {"missing": 3, "impute": "zero", "normalize": "none"}, "x", "int64"),
        ("float32", {"normalize": {"buckets": 2}}, "x", "int64"),
    ],
)
def test_the_graph_gives_dtypes_that_a_schema_of_tensorflow_transform_has(dtype, said, name, output):
    x = np.arange(8).reshape(4, 2).astype(dtype)
    config = resolve({"x": x}, {"x": said})
    graph = Exported(config, learn(config, {"x": x})).transform_fn
    found = graph({"x": tf.constant(x.astype(config.features[0].graph_dtype))})
    assert {key: value.dtype.name for key, value in found.items()} == {name: output}
    assert found[name].shape == (4, 2)


def test_an_indicator_is_an_output_of_its_own():
    x = np.array([[1.0], [np.nan]], np.float32)
    config = resolve({"x": x}, {"x": {"indicator": True}})
    found = Exported(config, learn(config, {"x": x})).transform_fn({"x": tf.constant(x)})
    assert found["x_missing"].dtype == tf.int64
    np.testing.assert_array_equal(found["x_missing"], [[0], [1]])


def test_numbers_that_are_no_floats_survive_the_vector():
    words = np.array([b"%d" % number for number in range(3000)])
    found = transform({"w": words}, {"w": {"normalize": "vocabulary"}})["w"]
    np.testing.assert_array_equal(found, np.argsort(np.argsort(words)))
