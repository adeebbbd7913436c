"""The transform as a Keras layer: what `Forward` gives, in graphs too, and after it was saved without the data set."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import loaders
from loaders.transform.keras_ops import KerasOps
from loaders.transform.layer import TransformLayer
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.every_step import EXACT, NEARLY, columns_of, learned


@pytest.mark.parametrize("said", [*EXACT, *NEARLY], ids=str)
def test_each_step_gives_what_arrays_give(said):
    columns = columns_of(said)
    forward, _ = learned(columns, {"x": said})

    apply = tf.function(lambda batch: forward(batch, KerasOps()))
    found = apply({name: tf.constant(values) for name, values in columns.items()})

    for name, values in forward(columns).items():
        assert found[name].dtype.name == values.dtype.name
        np.testing.assert_allclose(found[name], values, rtol=2e-7 if values.dtype == np.float32 else 1e-9, atol=1e-9)


@pytest.mark.parametrize("said", [{}, {"size": 2}, {"oov_buckets": 0}], ids=str)
def test_ranks_of_integers(said):
    columns = {"n": np.array([5, -3, 5, 2**40, -3, 5])}
    forward, _ = learned(columns, {"n": {"normalize": {"vocabulary": said}}})
    given = np.array([5, -3, 2**40, 7, -(2**50)])

    found = forward({"n": tf.constant(given)}, KerasOps())["n"]

    assert found.numpy().tolist() == forward({"n": given})["n"].tolist()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("layer")
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (120, 4)).astype(np.float32)
    x[::7, 1] = np.nan
    arrays = {"x.npy": x, "site.npy": np.arange(120) % 3, "word.npy": np.array([b"w"] * 120)}
    write_files(directory / "src", arrays)
    said = {"x": {"impute": "mean", "normalize": "zscore", "by": "site", "store": "raw"}}
    said |= {"word": {"normalize": "none"}, "site": {"normalize": "none"}}
    build(directory / "src", directory / "out", {"features": said})
    return directory / "out"


def raw(root):
    rows = loaders.open(root)["train"][:]
    return {"x": rows["x"], "site": rows["site"]}


def test_a_model_that_was_saved_needs_no_data_set(root, tmp_path):
    shutil.copytree(root, tmp_path / "set")
    layer = TransformLayer.from_data_set(tmp_path / "set", features=["x"])
    inputs = {"x": keras.Input((4,)), "site": keras.Input((), dtype="int64")}
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)["x"]))
    expected = model.predict(raw(root), verbose=0)
    model.save(tmp_path / "model.keras")
    shutil.rmtree(tmp_path / "set")

    again = keras.saving.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(again.predict(raw(root), verbose=0), expected)
    (kept,) = (each for each in again.layers if isinstance(each, TransformLayer))
    np.testing.assert_allclose(kept(raw(root))["x"], loaders.forward(root)(raw(root))["x"], rtol=2e-7)
    assert np.isfinite(expected).all()
    json.dumps(layer.get_config())


def test_what_is_not_for_it(root):
    with pytest.raises(ValueError, match="feature word: expected one of real numbers, of one shape; found string"):
        TransformLayer.from_data_set(root)
    with pytest.raises(ValueError, match="expected features of site, word, x; found y"):
        TransformLayer.from_data_set(root, features=["y"])
