"""What is learned: whatever the cut into units, and the same in every batch."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipelines.analyze import fit, graph, rounds
from pipelines.analyze.accumulate import accumulate
from pipelines.reading.batches import Ragged
from tests.support.fitting import Exported, fitted, learn, packed_of, resolve, transform

FLOATS = [
    {},
    {"impute": "median", "indicator": True},
    {"impute": "most_frequent", "normalize": "none"},
    {"impute": "min", "normalize": "minmax", "dtype": "float64"},
    {"impute": "max", "normalize": {"minmax": [-1, 1]}, "over": "all"},
    {"impute": "zero", "normalize": "maxabs", "over": [0], "dtype": "float16"},
    {"impute": {"constant": 0.5}, "normalize": ["log1p", "zscore"], "dtype": "float64"},
    {"impute": "regression", "normalize": "zscore", "dtype": "float64"},
    {"impute": "none", "normalize": "robust", "over": "channel"},
    {"impute": "none", "normalize": [{"clip": [0.01, 0.99]}, "minmax"], "dtype": "float64"},
    {"impute": "none", "normalize": {"quantile": "uniform"}, "over": [-1], "dtype": "float64"},
    {"impute": "none", "normalize": {"quantile": "normal"}, "dtype": "float64"},
    {"normalize": {"row": "l2"}, "dtype": "float64"},
    {"normalize": {"row": "mean"}, "dtype": "float64"},
    {"normalize": {"row": "zscore"}, "dtype": "float64"},
    {"impute": "none", "normalize": "gaussian", "dtype": "float64"},
    {"normalize": [{"buckets": 7}, {"one_hot": 7}]},
    {"normalize": {"buckets": [0.1, 0.2]}},
    {"normalize": ["zscore", {"pca": 2}], "dtype": "float64"},
    {"normalize": {"whiten": 2}, "dtype": "float64"},
    {"by": "g", "dtype": "float64"},
    {"by": "g", "impute": "min", "normalize": "maxabs", "dtype": "float64"},
    {"normalize": [{"scale": 0.1}, "log1p", "zscore"], "dtype": "float64", "missing": [5]},
]


def arrays(rows=203):
    random = np.random.default_rng(0)
    x = random.lognormal(size=(rows, 5, 3)).astype(np.float32)  # 15 elements: no multiple of what a processor takes
    x[random.random(x.shape) < 0.1] = np.nan
    return {"x": x, "g": random.integers(-1, 3, rows)}


def cut(columns, rows):
    return {name: column[rows] for name, column in columns.items()}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("said", FLOATS, ids=str)
def test_what_is_learned_does_not_depend_on_units_or_order(said):
    columns = arrays()
    config = resolve(columns, {"x": said})
    packed = [packed_of(config, learn(config, columns, units)) for units in (1, 3, 7)]
    order = np.random.default_rng(1).permutation(len(columns["g"]))
    packed.append(packed_of(config, learn(config, cut(columns, order), 4)))
    assert len({one.tobytes() for one in packed}) == 1


@pytest.mark.parametrize("said", FLOATS, ids=str)
def test_the_output_of_a_row_does_not_depend_on_its_batch(said):
    columns = arrays()
    apply = fitted(columns, {"x": said})
    whole = apply(columns)
    for rows in (
        slice(0, 101),
        slice(101, 203),
        slice(0, 1),
        slice(17, 18),
        slice(202, 203),
        slice(5, 5),
        slice(3, 12),
    ):
        same(apply(cut(columns, rows)), cut(whole, rows))


WORDS = {
    "x": np.array([b"a", b"bb", b"", b"a"] * 20),
    "g": np.arange(80) % 3 == 0,
    "n": np.arange(80, dtype=np.int16) % 7,
}


def test_words_and_classes_in_every_batch():
    said = {
        "x": {"normalize": ["vocabulary", {"one_hot": 4}]},
        "n": {"normalize": {"vocabulary": {"size": 3, "oov_buckets": 2}}},
        "g": {"normalize": "none"},
    }
    config = resolve(WORDS, said)
    packed = {packed_of(config, learn(config, WORDS, units)).tobytes() for units in (1, 3, 7)}
    assert len(packed) == 1
    apply = fitted(WORDS, said)
    whole = apply(WORDS)
    for rows in (slice(0, 40), slice(79, 80), slice(4, 4)):
        same(apply(cut(WORDS, rows)), cut(whole, rows))


def test_a_group_that_is_the_only_one_and_one_that_is_empty():
    columns = {"x": np.array([1.0, 2.0, np.nan]), "g": np.array([0, 0, 1])}
    found = transform(columns, {"x": {"by": "g", "normalize": "none"}})["x"]
    np.testing.assert_allclose(found, [1.0, 2.0, 1.5])
    one = transform({"x": columns["x"], "g": np.zeros(3, int)}, {"x": {"by": "g", "normalize": "none"}})["x"]
    np.testing.assert_allclose(one, [1.0, 2.0, 1.5])


def test_units_without_rows_add_nothing():
    columns = arrays(5)
    config = resolve(columns, {"x": {"impute": "median", "normalize": ["log1p", "zscore"]}})
    packed = {packed_of(config, learn(config, columns, units)).tobytes() for units in (1, 5, 9)}
    assert len(packed) == 1


def test_rows_of_varying_length_learn_from_every_step():
    values = np.random.default_rng(2).normal(size=(30, 2))
    values[3, 1] = np.nan
    x = Ragged(values=values, lengths=np.array([5, 0, 20, 5]))
    for said in ({}, {"impute": "median", "normalize": "robust"}, {"normalize": {"pca": 1}}, {"over": "all"}):
        expected = transform({"x": values}, {"x": said})["x"]
        found = fitted({"x": x}, {"x": said}, units=4)({"x": x})["x"]
        np.testing.assert_array_equal(found.lengths, x.lengths)
        np.testing.assert_array_equal(found.values, expected)


def test_knowledge_is_of_values():
    columns = arrays()
    config = resolve(columns, {"x": {"impute": "median"}})
    known = learn(config, columns)
    assert known["x"].pending is None
    assert dataclasses.replace(known["x"], moments=None) != known["x"]
    again = Exported(config, known).transform_fn({"x": tf.constant(columns["x"])})
    assert set(again) == {"x"}


@pytest.mark.slow
def test_the_values_do_not_depend_on_how_the_graph_is_run(tmp_path):
    x = np.abs(np.random.default_rng(0).normal(3, 2, (3000, 6)))
    x[::17, ::2] = np.nan
    steps = [
        "zscore",
        {"minmax": [-1, 3]},
        ["robust", {"scale": "1/3"}, {"scale": 7}],
        {"row": "mean"},
        {"row": "zscore"},
        {"quantile": "normal"},
        "gaussian",
        {"whiten": 3},
        ["log1p", "maxabs"],
    ]
    arrays = {f"x{number}": x for number in range(len(steps))}
    said = {f"x{number}": {"normalize": step, "dtype": "float64"} for number, step in enumerate(steps)}
    config = resolve(arrays, said)
    packed = packed_of(config, learn(config, arrays))
    module = tf.Module()
    module.transform_fn = tf.function(lambda inputs: graph.preprocess(inputs, packed, config.transformed))
    module.transform_fn.get_concrete_function({name: tf.TensorSpec([None, 6], tf.float64) for name in arrays})
    tf.saved_model.save(module, str(tmp_path))
    saved = tf.saved_model.load(str(tmp_path))
    inputs = {name: tf.constant(array) for name, array in arrays.items()}
    eager = graph.preprocess(inputs, tf.constant(packed), config.transformed)
    ways = {
        "a SavedModel": saved.transform_fn(inputs),
        "a function that knows the shapes": tf.function(saved.transform_fn)(inputs),
        "tf.data": next(iter(tf.data.Dataset.from_tensor_slices(arrays).batch(3000).map(saved.transform_fn))),
    }
    for way, found in ways.items():
        for name, values in eager.items():
            assert (found[name].numpy() == values.numpy()).all(), (way, name)


@pytest.mark.parametrize(
    "labels", [np.array([3, 1, 1, -2]), np.array([True, False, True, True]), np.array([b"ash", b"b", b"ash", b"ash"])]
)
def test_classes_of_labels_are_counted(labels):
    config = resolve({"x": np.zeros(4, np.float32), "label": labels}, {})
    known = learn(config, {"x": np.zeros(4, np.float32), "label": labels})
    values, counts = np.unique(labels, return_counts=True)
    assert known["label"].classes is not None
    np.testing.assert_array_equal(known["label"].classes.values, values)
    np.testing.assert_array_equal(known["label"].classes.counts, counts)
    assert known["x"].classes is None


def test_labels_of_very_many_values_are_no_classes():
    arrays = {"label": np.arange(70_000)}
    assert learn(resolve(arrays, {}), arrays)["label"].classes is None


def test_what_was_added_up_is_let_go():
    """A runner holds on to what it hands over."""
    columns = arrays(20)
    features = {own.name: own for own in resolve(columns, {"x": {"by": "g"}}).features if own.analyzed}
    known, (needs,) = fit.begin(features.values()), rounds.schedule(features.values())
    added = accumulate(needs, features, known, columns, np.arange(20, dtype=np.uint64))
    assert added
    assert fit.update(features, known, added)["x"].constants
    assert not added
