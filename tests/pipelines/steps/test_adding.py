"""An imputation and a normalisation that are added as docs/adding.md says, and used, without a change elsewhere."""

import numpy as np
import pytest

import loaders
from loaders.format.step_formulas import FORMULAS, Formula
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError
from pipelines.maintain.verify import verify
from pipelines.steps.imputation import Fill
from pipelines.steps.methods import IMPUTE, NORMALIZE
from pipelines.steps.options import Number
from pipelines.steps.step import MomentStep, Step
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.fitting import transform


class Middle(Fill, MomentStep):
    """Fills in what lies between the least and the greatest training value."""

    key = "middle"

    def fill(self, result):
        return (result["min"] + result["max"]) / 2


class Root(Step):
    """A root of values from 0 on, as many times as great as their median."""

    key = "root"
    constants = ("divisor",)
    domain = "values from 0 on"
    bounded = False
    exponent: Number = 0.5
    factor: Number = 1.0

    def estimator(self, value):
        return value.quantiles(0.5)

    def fit(self, result, value):
        return {"divisor": value.broadcast(result["quantiles"][0])}

    def outside(self, x):
        return x < 0


def root(x, constants, said, ops):
    divided = ops.sqrt(x / constants["divisor"]) * ops.literal((said or {}).get("factor", 1.0), x)
    return ops.where(x < 0, ops.constant(np.inf, x), divided)


def square(y, constants, said, ops):
    return (y / (said or {}).get("factor", 1.0)) ** 2 * constants["divisor"]


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setitem(IMPUTE, "middle", Middle)
    monkeypatch.setitem(NORMALIZE, "root", Root)
    monkeypatch.setitem(FORMULAS, "middle", FORMULAS["mean"])
    monkeypatch.setitem(FORMULAS, "root", Formula(root, square))


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


def test_what_is_wrong_with_them_is_said(added):
    with pytest.raises(ConfigError, match=r"expected none, zscore, .*one_hot: AN INTEGER.*, root, or a list of these"):
        parse_config({"features": {"x": {"normalize": "rot"}}})
    with pytest.raises(ConfigError, match=r"root\.exponent: expected a number; found \[1\]"):
        parse_config({"features": {"x": {"normalize": {"root": {"exponent": [1]}}}}})
    with pytest.raises(Exception, match="feature x: expected values from 0 on for root; found -1"):
        transform({"x": -np.ones((3, 1))}, {"x": SAID})
