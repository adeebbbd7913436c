"""How often the training rows are read, and what each round gathers."""

import numpy as np
import pytest

from pipelines.analyze.rounds import inputs_of, schedule
from pipelines.errors import DataError
from pipelines.statistics import groups
from pipelines.statistics.quantiles import Quantiles
from pipelines.steps import encoding
from tests.support.fitting import learn, resolve, resolve_one


@pytest.mark.parametrize(
    ("dtype", "said", "rounds"),
    [
        ("float32", {}, 1),
        ("float32", {"normalize": "none"}, 1),
        ("float32", {"impute": "min", "normalize": "minmax"}, 1),
        ("float32", {"by": "g"}, 1),
        ("int64", {}, 1),
        ("float32", {"normalize": ["log1p", "zscore"]}, 2),
        ("float32", {"normalize": ["zscore", "zscore"]}, 2),
        ("float32", {"normalize": {"buckets": [1, 2]}}, 1),
        ("float32", {"normalize": {"pca": 2}, "impute": "none"}, 1),
        ("float32", {"normalize": {"pca": 2}}, 2),
        ("float32", {"impute": "regression", "normalize": "none"}, 1),
        ("float32", {"impute": "regression"}, 2),
        ("float32", {"impute": "most_frequent", "normalize": "zscore"}, 1),
        ("uint8", {"normalize": {"clip": [0, 0.9]}}, 1),
        ("uint8", {"normalize": "robust", "missing": 255, "impute": "zero"}, 2),
        ("int64", {"normalize": ["vocabulary", {"one_hot": 3}]}, 1),
    ],
)
def test_how_often_the_rows_are_read(dtype, said, rounds):
    found = schedule([resolve_one(dtype, (3,), **said)])
    assert len(found) == rounds
    assert len(set(found[0])) == len(found[0])


@pytest.mark.parametrize("impute", ["none", "median"])
def test_quantiles_are_read_as_often_as_they_need(impute):
    passes = Quantiles(probabilities=(0.25, 0.5, 0.75), dtype="float32", shape=(3,), over="element").passes
    one = Quantiles(probabilities=(0.5,), dtype="float32", shape=(3,), over="element").passes
    wide = Quantiles(probabilities=(0.25, 0.5, 0.75), dtype="float64", shape=(3,), over="element").passes
    normalize = "robust" if impute == "none" else "zscore"
    assert len(schedule([resolve_one("float32", (3,), impute=impute, normalize=normalize)])) == (
        passes if impute == "none" else one
    )
    assert len(schedule([resolve_one("float32", (3,), impute="median", normalize="robust")])) == one + wide


def test_all_features_share_the_rounds():
    features = [
        resolve_one("float32", (3,), name="a", impute="median"),
        resolve_one("uint8", (), name="b", normalize="robust"),
        resolve_one("int64", (), name="c"),
        resolve_one("S3", (), name="d", normalize="vocabulary"),
        resolve_one("S3", (), name="e"),
        resolve_one("complex64", (), name="f"),
    ]
    found = schedule(features[:4])
    assert len(found) == len(schedule(features[:1]))
    assert [{need.feature for need in needs} for needs in found[:2]] == [{"a", "b", "c", "d"}, {"a"}]
    assert [[need.what for need in needs] for needs in schedule(features[4:])] == [["sample"]]
    assert schedule(features[5:]) == ()
    assert inputs_of([resolve_one("float32", (), name="z", by="g", mask="m")]) == ("g", "m", "z")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"by": "g", "normalize": "zscore"}, "feature x: expected at most 9 groups; found 10 or more"),
        ({"normalize": "vocabulary"}, "feature x: vocabulary: expected at most 9 distinct values; found 10 or more"),
    ],
)
@pytest.mark.parametrize("units", [1, 2])
def test_what_is_more_than_is_counted_is_an_error_that_names_the_feature(said, message, units, monkeypatch):
    monkeypatch.setattr(groups, "GROUPS", 9)
    monkeypatch.setattr(encoding, "MOST_DISTINCT", 9)
    x = np.arange(10) if "vocabulary" in said.values() else np.arange(10.0)
    columns = {"x": x, "g": np.arange(10)}
    with pytest.raises(DataError, match=message):
        learn(resolve(columns, {"x": said}), columns, units)


def test_the_most_frequent_of_many_values_is_found():
    x = np.append(np.arange(70_000.0), [7.0, np.nan])
    config = resolve({"x": x}, {"x": {"impute": "most_frequent", "normalize": "none"}})
    assert learn(config, {"x": x}, 2)["x"].constants[0]["fill"] == 7
