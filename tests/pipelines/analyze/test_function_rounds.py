"""What a user's function asks of the rows: when it learns that, of which features, and that it is the same."""

import functools

import numpy as np
import pytest

from pipelines.analyze import fit, rounds
from pipelines.analyze.accumulate import accumulate
from pipelines.analyze.function_constants import as_fitted
from pipelines.analyze.user_function import Prepared, load_function, trace
from pipelines.errors import DataError
from pipelines.storage.npz_bytes import dump_arrays
from tests.support.eagerly import analyzing
from tests.support.fitting import resolve
from tests.support.transforming import as_tensors

MODULE = """
import tensorflow as tf
import tensorflow_transform as tft
from pipelines import analyzers as npa

def everything(inputs):
    x, site = inputs["x"], inputs["site"]
    filled = npa.impute({"x": x, "half": x / 2}, "median", dtype=tf.float32)
    scaled = npa.scale_to_z_score(filled["x"] + filled["half"], by=site)
    counted = npa.moments(x, over="all")
    return {
        "scaled": scaled,
        "by": tf.cast(npa.mean(scaled, by=inputs["word"]), tf.float32),
        "mean": tf.zeros_like(x) + tf.cast(counted.mean, tf.float32),
        "word": npa.vocabulary(inputs["word"]),
        "white": npa.whiten(tf.where(tf.math.is_nan(x), 0.0, x), 2),
        "most": tf.cast(npa.most_frequent(site), tf.float32) + tf.zeros_like(x[:, 0]),
        "label": inputs["label"],
    }

def direct(inputs):
    x = npa.impute({"x": inputs["x"], "label": inputs["label"]}, "mean", dtype=tf.float32)
    return {"x": npa.scale_to_z_score(x["x"])}

def theirs(inputs):
    return {"x": npa.scale_to_z_score(inputs["x"]) + tft.mean(inputs["label"])}

def table(inputs):
    keys = tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), tf.constant([1.0, 2.0]))
    known = tf.lookup.StaticHashTable(keys, 0.0).lookup(inputs["site"])
    return {"x": npa.scale_to_z_score(inputs["x"] + known[:, None])}

def checking(inputs):
    low = tf.debugging.assert_less(inputs["label"], tf.constant(7, tf.int64), "a label is high")
    with tf.control_dependencies([low]):
        return {"x": npa.scale_to_z_score(tf.identity(inputs["x"]))}

def nothing(inputs):
    return {"x": inputs["x"]}
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    return f"{tmp_path}/mine.py"


def columns():
    rng, rows = np.random.default_rng(0), 200
    x = rng.normal(3, 2, (rows, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    word = np.array([b"ash", b"beech", b"cedar"])[rng.integers(0, 3, rows)]
    return {"x": x, "site": rng.integers(0, 4, rows), "word": word, "label": np.arange(rows)}


def traced(place, name):
    return trace(f"{place}:{name}", resolve(columns(), {"x": {"impute": "none", "normalize": "none"}}).features)


def learned(custom, features, parts):
    """What the analyzers of a function learn of parts of the rows, in rounds."""
    known = fit.begin(features.values())
    for needs in rounds.schedule(features.values()):
        names = rounds.inputs_of_round(needs, features)
        some = [{name: part[name] for name in names} for part in parts]
        hashes = [np.arange(len(part["x"]), dtype=np.uint64) for part in parts]  # the statistics take a sample by them
        added = [accumulate(needs, features, known, own, of) for own, of in zip(some, hashes, strict=True)]
        known = fit.update(features, known, functools.reduce(functools.partial(rounds.merge, features), added))
    return [known[asked.name].constants[0] for asked in custom.asked]


def test_it_learns_what_the_analyzers_do(place, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.analyze.accumulate.PIECE_BYTES", 400)  # a part is run in pieces
    rows, custom = columns(), traced(place, "everything")
    parts = [
        {name: column[part] for name, column in rows.items()} for part in (slice(70), slice(70, 71), slice(71, None))
    ]
    found = learned(custom, {asked.name: asked for asked in custom.asked}, parts)
    (tmp_path / "fitted.npz").write_bytes(dump_arrays(as_fitted(custom, found)))
    function = load_function(f"{place}:everything")
    outputs = Prepared(function, custom.traced.features, str(tmp_path / "fitted.npz"))(as_tensors(rows))
    with analyzing(cuts=(9, 100)):
        expected = function(as_tensors(rows))
    for name, tensor in expected.items():
        np.testing.assert_array_equal(outputs[name].numpy(), tensor.numpy(), err_msg=name)


def test_when_it_reads_which_features(place):
    asked = {own.number: own for own in traced(place, "everything").asked}
    first = {number: (own.first, own.reads, own.after) for number, own in asked.items()}
    assert first[0] == (0, (("x",),) * 2, ((),) * 2)  # a median of float32 takes two passes
    assert first[1] == (2, (("site", "x"),), ((0,),))
    assert first[2] == (0, (("x",),), ((),))
    assert first[3] == (3, (("site", "word", "x"),), ((0, 1),))
    assert asked[2].direct == (("x",),)
    assert asked[1].direct == (None,)


def test_moments_that_the_statistics_have_are_not_added_up_again(place, monkeypatch):
    custom = traced(place, "direct")
    assert [own.direct for own in custom.asked] == [(("x", "label"),), (None,)]
    config = resolve(columns(), {"x": {"impute": "none", "normalize": "none"}})
    asked = {own.name: own for own in custom.asked}
    alone = learned(custom, asked, [columns()])
    features = {own.name: own for own in config.features if own.analyzed} | asked
    monkeypatch.setattr("pipelines.analyze.accumulate._accumulate_asked", only_second(accumulate.__globals__))
    for one, other in zip(alone, learned(custom, features, [columns()]), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def only_second(module):
    whole = module["_accumulate_asked"]

    def accumulated(need, asked, known, some):
        assert asked.number == 1, "the moments of x and label are there"
        return whole(need, asked, known, some)

    return accumulated


def test_what_needs_the_analysis_of_tf_transform(place):
    found = {name: traced(place, name) for name in ("theirs", "table", "nothing", "direct")}
    assert {name: own.traced is not None for name, own in found.items()} == {
        "theirs": False,
        "table": False,
        "nothing": True,
        "direct": True,
    }
    assert not found["theirs"].asked
    assert found["theirs"].phases == (("label", "x"),)


def test_rows_that_tensorflow_cannot_take_are_an_error_that_names_the_function(place):
    custom = traced(place, "checking")
    with pytest.raises(DataError, match=r"^preprocessing_fn: .*mine\.py:checking, of rows: .*a label is high"):
        learned(custom, {own.name: own for own in custom.asked}, [columns()])
