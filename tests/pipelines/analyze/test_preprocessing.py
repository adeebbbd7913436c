"""A preprocessing_fn beside declared steps: what the function is called with, and what is left to the configuration."""

import re

import numpy as np
import pytest

import loaders
import pipelines
from pipelines.analyze.user_function import trace
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError
from pipelines.plan.resolve import resolve_features
from pipelines.sources.table import scan
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.fitting import resolve

MODULE = """
import tensorflow as tf
from pipelines import analyzers as npa

def mine(inputs):
    count, level = inputs["count"], inputs["level"]
    assert (count.dtype, level.dtype, inputs["raw"].dtype) == (tf.float64, tf.float64, tf.float32)
    return {
        "count": npa.scale_to_z_score(npa.impute(count, "median"), dtype=tf.float32),
        "level": tf.cast(level, tf.float32),
        "graded": npa.scale_to_min_max(inputs["score"], -1, 1, by=inputs["site"], dtype=tf.float32),
        "seen": tf.cast(~tf.math.is_nan(inputs["raw"]), tf.int64),
        "label": inputs["label"],
    }

def learning_nothing(inputs):
    return {"label": inputs["label"]}

def both(inputs):
    return {"raw": inputs["raw"], "label": inputs["label"]}

def bad(inputs):
    return inputs["nothing"]

def indicator(inputs):
    return {"raw_missing": inputs["label"]}
"""

DECLARED = {
    "raw": {"impute": "mean", "normalize": "zscore", "indicator": True, "missing": [99], "dtype": "float64"},
    "word": {"normalize": "vocabulary"},
    "score": {"normalize": "minmax", "by": "site"},
}

PLAIN = {name: {"impute": "none", "normalize": "none"} for name in "xy"}

PREPARED = {
    "count": {"missing": [-1]},
    "level": {"mask": "gone", "dtype": "float64"},
}


def arrays(rows=400, first=0):
    rng = np.random.default_rng(first)
    raw = rng.normal(3, 2, (rows, 3)).astype(np.float32)
    raw[rng.random(raw.shape) < 0.1] = np.nan
    raw[::7, 0] = 99
    return {
        "raw": raw,
        "count": rng.integers(-1, 6, rows),
        "level": rng.normal(size=rows).astype(np.float16),
        "gone": rng.random(rows) < 0.3,
        "score": rng.normal(size=rows),
        "site": rng.integers(0, 3, rows),
        "word": np.array(["ash", "beech", "cedar"])[rng.integers(0, 3, rows)],
        "label": np.arange(first, first + rows),
    }


@pytest.fixture
def source(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    return write_files(tmp_path / "source", {f"{name}-0.npy": array for name, array in arrays().items()})


def rows_of(root):
    (batch,) = loaders.load(root, "train", batch_size=10**6, shuffle=False)
    order = np.argsort(batch["label"].numpy())
    return {name: tensor.numpy()[order] for name, tensor in batch.items()}


@pytest.mark.slow
def test_a_function_leaves_features_to_the_configuration(source, tmp_path):
    """They are what they are without the function, bit for bit; the function gets what their declarations leave."""
    splits, place = {"train": 1.0}, f"{tmp_path}/mine.py"
    config = {"preprocessing_fn": f"{place}:mine", "features": DECLARED | PREPARED, "splits": splits}
    manifest = build(source, tmp_path / "out", config)
    build(source, tmp_path / "declared", {"features": DECLARED, "splits": splits})
    found, expected = rows_of(tmp_path / "out"), rows_of(tmp_path / "declared")
    assert sorted(found) == ["count", "graded", "label", "level", "raw", "raw_missing", "score", "seen", "word"]
    assert found["raw"].dtype == np.float64
    for name in ("raw", "raw_missing", "score", "word"):
        np.testing.assert_array_equal(found[name], expected[name])
    given = arrays()
    np.testing.assert_array_equal(found["seen"], ~(np.isnan(given["raw"]) | (given["raw"] == 99)))
    np.testing.assert_array_equal(found["level"], np.where(given["gone"], np.nan, given["level"].astype(np.float32)))
    count = given["count"].astype(np.float64)
    count[count == -1] = np.median(count[count != -1])
    np.testing.assert_allclose(found["count"], (count - count.mean()) / count.std(), rtol=1e-6)

    inverse = loaders.inverse(tmp_path / "out")
    there = ~found["raw_missing"]
    np.testing.assert_allclose(inverse("raw", found["raw"])[there], given["raw"][there], rtol=1e-6)
    np.testing.assert_allclose(inverse("count", found["count"]), count, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(inverse("graded", found["graded"], given["site"]), given["score"], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(inverse("label", found["label"]), given["label"])
    with pytest.raises(ValueError, match=r"feature seen: expected steps .*; .*:mine makes it by the operation Cast"):
        inverse("seen", found["seen"])
    shown = str(pipelines.inspect(tmp_path / "out"))
    assert re.search(r"impute of count \(mine\.py, line \d+\) +fill +one value +\d", shown)
    assert re.search(r"scale_to_min_max of score \(mine\.py, line \d+\) +divisor +4 +", shown)
    again = pipelines.build(source, tmp_path / "again", transform=tmp_path / "out", workers=1).manifest
    assert again.features == manifest.features
    more = write_files(tmp_path / "more", {f"{name}-1.npy": array for name, array in arrays(50, first=400).items()})
    appended = pipelines.append(more, tmp_path / "out", workers=1)
    assert {"raw", "count"} <= set(appended.drifts)
    np.testing.assert_allclose(loaders.inverse(tmp_path / "out")("count", found["count"]), count, rtol=1e-6, atol=1e-6)
    far = {name: array + 50 if name == "count" else array for name, array in arrays(200).items()}
    measures = pipelines.validate(far, against=tmp_path / "out", workers=1).measures
    assert {measure.feature for measure in measures if measure.exceeded} == {"count"}
    assert pipelines.verify(tmp_path / "out").problems == ()

    config["preprocessing_fn"] = f"{place}:learning_nothing"
    build(source, tmp_path / "none", config)
    np.testing.assert_array_equal(rows_of(tmp_path / "none")["raw"], expected["raw"])


WAYS = """
import tensorflow as tf
from pipelines import analyzers as npa

def ways(inputs):
    x, y = inputs["x"], inputs["y"]
    both = npa.scale_to_z_score({"x": x, "y": npa.impute(y, "mean")})
    return {
        "x": both["x"],
        "y": both["y"],
        "chain": tf.cast(npa.scale_robust(npa.scale_to_min_max(x, 0, 2, dtype=tf.float64)), tf.float32),
        "whole": tf.cast(x, tf.int64),
        "sum": both["x"] + both["y"],
        "far": npa.scale_to_z_score(x - tf.cast(npa.mean(x), x.dtype)),
        "same": y,
        "rank": npa.bucketize(y, 3),
    }
"""


def test_the_way_back_from_what_a_function_gives(tmp_path):
    """Steps of analyzers, one after the other, and casts to floats; all else is named."""
    (tmp_path / "ways.py").write_text(WAYS)
    found = trace(f"{tmp_path}/ways.py:ways", resolve({n: np.ones((4, 2), np.float32) for n in "xy"}, PLAIN).features)
    outputs = found.learned["outputs"]
    assert outputs["x"] == {"feature": "x", "steps": ["zscore"], "constants": ["1/0"]}
    assert outputs["y"] == {"feature": "y", "steps": ["zscore"], "constants": ["1/1"]}
    assert outputs["chain"]["steps"] == [{"minmax": [0.0, 2.0]}, "robust"]
    assert outputs["same"] == {"feature": "y", "steps": [], "constants": []}
    assert outputs["rank"]["steps"] == [{"buckets": 3}]
    assert {name: outputs[name].get("found") for name in ("whole", "sum", "far")} == {
        "whole": "Cast",
        "sum": "AddV2",
        "far": "Sub",
    }
    assert found.learned["analyzers"][1] == [
        "scale_to_z_score of x (ways.py, line 7)",
        "scale_to_z_score of y (ways.py, line 7)",
    ]


def traced(source, name, features):
    config = parse_config({"preprocessing_fn": "is:given", "features": features})
    place = f"{source}/../mine.py:{name}"
    return trace(place, resolve_features(config, scan(source, config)))


@pytest.mark.parametrize(
    ("name", "features", "message"),
    [
        ("both", DECLARED, "expected .*:both to give other names than raw, as features.raw has steps"),
        ("indicator", DECLARED, "to give other names than raw_missing, as features.raw has steps"),
        ("both", {"raw": {"impute": "mean", "normalize": "none", "store": "none"}}, "other names than raw"),
    ],
)
def test_what_both_make_is_refused_by_name(source, name, features, message):
    with pytest.raises(ConfigError, match=message):
        traced(source, name, features)


def test_what_a_function_is_called_with_is_named_in_its_errors(source):
    with pytest.raises(ConfigError, match=r"count \(int64 \[\]\), .*raw \(float32 \[3\]\).*; found 'nothing'"):
        traced(source, "bad", {})
    with pytest.raises(ConfigError, match=r"count \(float64 \[\]\), .*level \(float64 \[\]\)"):
        traced(source, "bad", PREPARED)


def test_of_rows_of_varying_length_nothing_is_declared_beside_a_function(tmp_path):
    clips = {f"clip-{n}.npy": np.ones((n + 1, 2), np.float32) for n in range(3)}
    source = write_files(tmp_path / "source", clips)
    for said in ({"normalize": "zscore"}, {"missing": [1]}):
        config = parse_config({"preprocessing_fn": "is:given", "features": {"clip": {"ragged": True} | said}})
        with pytest.raises(ConfigError, match=r"features\.clip: expected no steps and no missing values"):
            resolve_features(config, scan(source, config))
