"""An imputation and a normalisation that are added as docs/adding.md says, and used, without a change elsewhere."""

import numpy as np
import pytest
import tensorflow as tf

import loaders
import pipelines
from loaders.format.step_formulas import FORMULAS, Formula, fill
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError
from pipelines.maintain.verify import verify
from pipelines.steps.imputation import Fill
from pipelines.steps.methods import IMPUTE, NORMALIZE
from pipelines.steps.options import Number
from pipelines.steps.step import MomentStep, Step
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.eagerly import analyzing
from tests.support.fitting import transform


class Middle(Fill, MomentStep):
    """Fills in what lies between the least and the greatest training value."""

    key = "middle"

    def fill(self, result):
        return (result["min"] + result["max"]) / 2


class Root(Step):
    """The square root of values from 0 on, divided by their median, times a factor and more by an offset."""

    key = "root"
    constants = ("divisor",)
    domain = "values from 0 on"
    bounded = False
    factor: Number = 1.0
    offset: Number = 0.0

    def estimator(self, value):
        return value.quantiles(0.5)

    def fit(self, result, value):
        return {"divisor": value.broadcast(result["quantiles"][0])}

    def outside(self, x):
        return x < 0


def root(x, constants, said, ops):
    factor, offset = (ops.literal(value, x) for value in options(said))
    return ops.where(x < 0, ops.constant(np.inf, x), factor * ops.sqrt(x / constants["divisor"]) + offset)


def square(y, constants, said, ops):
    factor, offset = options(said)
    return ((y - offset) / factor) ** 2 * constants["divisor"]


def options(said):
    return ({"factor": 1.0, "offset": 0.0} | (said or {})).values()


ENTRIES = {"middle": Formula(fill), "root": Formula(root, square)}


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setitem(IMPUTE, "middle", Middle)
    monkeypatch.setitem(NORMALIZE, "root", Root)
    for key, formula in ENTRIES.items():
        monkeypatch.setitem(FORMULAS, key, formula)


def values():
    x = np.random.default_rng(0).uniform(1, 9, (200, 3)).astype(np.float32)
    x[3, 1] = np.nan
    return x


def expected(x):
    middle = (np.nanmin(x, 0).astype(np.float64) + np.nanmax(x, 0)) / 2
    filled = np.where(np.isnan(x), middle, x)
    return 2 * np.sqrt(filled / np.median(filled, 0))


SAID = {"impute": "middle", "normalize": {"root": {"factor": 2}}}


def test_steps_that_are_added_learn_and_transform(added):
    x = values()
    np.testing.assert_allclose(transform({"x": x}, {"x": SAID | {"dtype": "float64"}})["x"], expected(x), rtol=1e-14)


def test_a_data_set_is_built_verified_and_inverted(added, tmp_path):
    x = values()
    config = parse_config({"features": {"x": SAID | {"dtype": "float64"}}, "splits": {"train": 1}})
    manifest = build(write_files(tmp_path / "src", {"x.npy": x}), tmp_path / "out", config)
    assert manifest.config["features"]["x"]["normalize"] == {"root": {"factor": 2.0}}
    assert verify(str(tmp_path / "out")).problems == ()
    batches = loaders.load(tmp_path / "out", "train", batch_size=50, shuffle=False, epochs=1)
    rows = np.concatenate([batch["x"] for batch in batches.as_numpy_iterator()])
    np.testing.assert_allclose(np.sort(rows, axis=0), np.sort(expected(x), axis=0), rtol=1e-14)
    raw = loaders.inverse(tmp_path / "out")("x", expected(x))
    np.testing.assert_allclose(raw[~np.isnan(x)], x[~np.isnan(x)], rtol=1e-6)
    for transform_rows in (loaders.forward(tmp_path / "out"), loaders.TransformLayer.from_data_set(tmp_path / "out")):
        np.testing.assert_allclose(np.asarray(transform_rows({"x": x})["x"]), expected(x), rtol=1e-14)


def test_they_are_printed_as_a_function(added, tmp_path):
    x = values()
    text = pipelines.inspect(write_files(tmp_path, {"x.npy": x}), {"features": {"x": SAID}}).as_function()
    assert "npa.impute(x, 'middle', dtype=tf.float64)" in text
    assert "npa.normalize(x, {'root': {'factor': 2.0}}, dtype=tf.float64)" in text
    exec(text, found := {})
    with analyzing(cuts=(50,)):
        np.testing.assert_allclose(found["preprocess"]({"x": tf.constant(x)})["x"], expected(x), rtol=1e-6)


def test_every_step_has_a_formula_and_every_formula_a_step():
    assert {*IMPUTE, *NORMALIZE} == FORMULAS.keys()


def test_what_is_wrong_with_them_is_said(added):
    with pytest.raises(ConfigError, match=r"expected none, zscore, .*one_hot: AN INTEGER.*, root, or a list of these"):
        parse_config({"features": {"x": {"normalize": "rot"}}})
    with pytest.raises(ConfigError, match=r"root\.offset: expected a number; found \[1\]"):
        parse_config({"features": {"x": {"normalize": {"root": {"offset": [1]}}}}})
    with pytest.raises(Exception, match="feature x: expected values from 0 on for root; found -1"):
        transform({"x": -np.ones((3, 1))}, {"x": SAID})
