"""A configuration printed as the preprocessing_fn that it means: the function makes the same of the rows."""

import numpy as np
import pytest

import loaders
import pipelines
from pipelines import analyzers
from pipelines.errors import ConfigError
from pipelines.interface.inspect import Inspection
from pipelines.steps.methods import NORMALIZE
from tests.support.arrays import write_files
from tests.support.builds import build

FEATURES = {
    "a": {"impute": "median", "normalize": ["robust", {"minmax": [-1, 1]}], "indicator": True},
    "b": {"impute": "mean", "by": "site", "normalize": "zscore", "missing": [-9]},
    "c": {"impute": "most_frequent", "missing": [-1], "normalize": {"clip": [0.1, 0.9]}, "over": "all"},
    "d": {"impute": "regression", "normalize": [{"whiten": 2}]},
    "e": {"impute": "none", "normalize": ["log1p", {"scale": 0.5}], "missing": [7]},
    "f": {"impute": {"constant": 3}, "normalize": {"quantile": "normal"}, "mask": "gone"},
    "g": {"normalize": {"one_hot": 4}},
    "h": {"normalize": [{"row": "l2"}, "maxabs"]},
    "i": {"impute": "min", "normalize": {"buckets": 5}},
    "word": {"normalize": {"vocabulary": {"min_count": 2}}},
    "gone": {"store": "none"},
    "site": {"impute": "none", "normalize": "none"},
    "labels": {"role": "label"},
}

SPLITS = {"train": 1.0}


def arrays(rows=600):
    rng = np.random.default_rng(0)
    found = {name: rng.normal(3, 2, (rows, 3)).astype(np.float32) for name in "abdfhi"}
    for name in "abdfi":
        found[name][rng.random((rows, 3)) < 0.1] = np.nan
    found["b"][::11] = -9
    found |= {"c": rng.integers(-1, 9, (rows, 2)), "e": rng.integers(0, 9, rows).astype(np.float64)}
    words = np.array(["ash", "beech", "cedar"])[rng.integers(0, 3, rows)]
    words[0] = "oak"
    return found | {
        "g": rng.integers(0, 4, rows),
        "word": words,
        "gone": rng.random(rows) < 0.2,
        "site": rng.integers(0, 3, rows),
        "labels": np.arange(rows),
    }


@pytest.mark.slow
def test_a_build_with_the_printed_function_is_that_of_the_configuration(tmp_path):
    source = write_files(tmp_path / "source", {f"{name}.npy": array for name, array in arrays().items()})
    config = {"features": FEATURES, "splits": SPLITS}
    text = pipelines.inspect(source, config).as_function()
    (tmp_path / "functions.py").write_text(text)
    build(source, tmp_path / "declared", config)
    build(source, tmp_path / "out", {"preprocessing_fn": f"{tmp_path}/functions.py:preprocess", "splits": SPLITS})
    declared, found = (
        next(iter(loaders.load(tmp_path / name, "train", batch_size=600, shuffle=False)))
        for name in ("declared", "out")
    )
    assert sorted(declared) == sorted(found)
    np.testing.assert_array_equal(declared["labels"], found["labels"])
    for name, expected in declared.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_what_steps_say_are_their_analyzers_is_there():
    named = {step.analyzer for step in NORMALIZE.values()} - {None}
    assert "scale_to_z_score" in named
    assert named <= set(analyzers.__all__)


def test_there_is_none_of_a_data_set_or_of_a_function(tmp_path):
    source = write_files(tmp_path / "source", {"x.npy": np.zeros((4, 2), np.float32)})
    with pytest.raises(ConfigError, match="expected sources"):
        Inspection(root="there").as_function()
    assert "npa.impute(x, 'mean', dtype=tf.float64)" in pipelines.inspect(source).as_function()
