"""Vocabularies and one-hot vectors."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder

from pipelines.errors import DataError
from tests.support.fitting import fitted, transform


def ranks(values, *, size=None, min_count=1):
    """The oracle: the most frequent first, then in ascending order."""
    counts = collections.Counter(values.ravel().tolist())
    ordered = sorted((v for v in counts if counts[v] >= min_count), key=lambda value: (-counts[value], value))
    return {value: rank for rank, value in enumerate(ordered[:size])}


def expected(values, known, buckets):
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in values.ravel().tolist()]
    other = np.full(len(texts), -1)
    if buckets:
        other = len(known) + tf.strings.to_hash_bucket_fast(texts, buckets).numpy()
    found = [known.get(value, bucket) for value, bucket in zip(values.ravel().tolist(), other, strict=True)]
    return np.array(found).reshape(values.shape)


WORDS = st.lists(st.sampled_from(["a", "b", "ä", "zebra", "", "日本", "B"]), min_size=1, max_size=40)
NUMBERS = st.lists(st.integers(-3, 3) | st.sampled_from([2**62, -(2**63)]), min_size=1, max_size=40)


@settings(max_examples=30, deadline=None)
@given(WORDS | NUMBERS, st.sampled_from([None, 1, 3]), st.sampled_from([1, 2]), st.sampled_from([0, 1, 4]))
def test_ranks_are_those_of_a_counter(values, size, min_count, buckets):
    text = isinstance(values[0], str)
    x = np.char.encode(np.array(values), "utf-8") if text else np.array(values, np.int64)
    new = np.concatenate([x, np.array([b"unseen", b"a"] if text else [77, 2], x.dtype if not text else "S6")])
    said = {"vocabulary": {"size": size, "min_count": min_count, "oov_buckets": buckets}}
    found = fitted({"x": x}, {"x": {"normalize": said}})({"x": new})["x"]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected(new, ranks(x, size=size, min_count=min_count), buckets))


def test_one_bucket_for_other_values_is_usual():
    x = np.array([3, 3, 1, 7])
    found = fitted({"x": x}, {"x": {"normalize": "vocabulary"}})({"x": np.array([3, 1, 7, 9, 10])})["x"]
    np.testing.assert_array_equal(found, [0, 1, 2, 3, 3])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "int64"])
def test_words_of_several_a_row_and_of_every_integer_dtype(dtype):
    x = np.random.default_rng(0).integers(0, 9, (40, 2, 3)).astype(dtype)
    found = transform({"x": x}, {"x": {"normalize": "vocabulary"}})["x"]
    np.testing.assert_array_equal(found, expected(x, ranks(x), 1))


def test_the_dtype_of_ranks():
    x = np.array([b"b", b"a", b"b"])
    found = transform({"x": x}, {"x": {"normalize": "vocabulary", "dtype": "uint8"}})["x"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [0, 1, 0])


def test_no_values_are_named():
    with pytest.raises(DataError, match="feature x: vocabulary: expected a value in the training rows; found none"):
        transform({"x": np.zeros(0, "S1")}, {"x": {"normalize": "vocabulary"}}, units=1)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_one_hot_is_that_of_scikit_learn(shape):
    x = np.random.default_rng(1).integers(-1, 6, (50, *shape))
    theirs = OneHotEncoder(categories=[range(5)], handle_unknown="ignore", sparse_output=False)
    wanted = theirs.fit_transform(x.reshape(-1, 1)).reshape(*x.shape, 5)
    found = transform({"x": x}, {"x": {"normalize": {"one_hot": 5}}})["x"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)


def test_one_hot_of_ranks_and_of_buckets():
    words = np.array([b"x", b"y", b"x", b"z"])
    found = transform({"x": words}, {"x": {"normalize": ["vocabulary", {"one_hot": 3}]}})["x"]
    np.testing.assert_array_equal(found, np.eye(3)[[0, 1, 0, 2]])
    found = transform({"x": np.arange(4.0)}, {"x": {"normalize": [{"buckets": [1.5]}, {"one_hot": 2}]}})["x"]
    np.testing.assert_array_equal(found, np.eye(2)[[0, 0, 1, 1]])


def test_one_hot_of_filled_classes():
    x = np.array([0, 255, 2, 1], np.uint8)
    found = transform({"x": x}, {"x": {"missing": 255, "impute": "zero", "normalize": {"one_hot": 3}}})["x"]
    np.testing.assert_array_equal(found, np.eye(3)[[0, 0, 2, 1]])
