"""A configuration with comments is the configuration of a build without one."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config.schema import DatasetConfig, FeatureConfig, load_config
from pipelines.errors import ConfigError
from pipelines.interface.as_yaml import OF_DATASET, OF_FEATURE
from pipelines.interface.inspect import inspect
from pipelines.output.directory import Output
from pipelines.output.state import state_of_build
from tests.support import shards
from tests.support.arrays import write_files

ROWS = 12
DTYPES = ("bool", "uint8", "int16", "int64", "float32", "float64", "complex64", "<U3", "S2", "M8[D]")
SHAPES = ((), (3,), (4, 5), (6, 6, 3))
NAMES = ("x", "labels", "y", "a.b", "no", "1e3", "#", "a: b", "größe", "%s", "[x]")
CONFIGS = (
    {},
    {"seed": 7, "splits": {"fit": 0.5, "it: #1": 0.5}, "training": "fit", "shard_bytes": 1000},
    {"features": {"row": {"source": "index"}, "one": {"source": {"constant": 2.5}, "store": "none"}}},
    {"features": {"row": {"source": "index"}}, "filter": "row != 3", "on_error": "skip", "max_bad_files": 3},
    {
        "features": {
            "more": {
                "files": "more.npy",
                "missing": [-9.5, float("inf")],
                "impute": {"constant": 1},
                "normalize": [{"clip": [0.01, 0.99]}, {"quantile": "normal"}],
                "over": [0],
                "indicator": True,
            },
            "row": {"source": "index"},
        },
        "splits": {"time": "row", "until": {"train": 3, "test": 7}, "rest": "later"},
    },
    {"features": {"row": {"source": "index", "class_names": ["a\nb", "c # d", "'", "no", "ä\u2028", ": "]}}},
)


def same(root, config, text):
    """Whether a text says what a build would do without it."""
    plan, again = inspect(root, config).plan, inspect(root, load_config(text)).plan
    return again.config == plan.config and state(again) == state(plan)


def state(plan):
    return state_of_build(plan, Output("out"), transform_from=None)


def uncommented(text):
    """A configuration in which the lines are said that are comments."""
    return re.sub(r"^( *)# (\w+: .*  # )", r"\1\2", text, flags=re.MULTILINE)


@given(
    features=st.dictionaries(
        st.sampled_from(NAMES), st.tuples(st.sampled_from(DTYPES), st.sampled_from(SHAPES)), min_size=1, max_size=4
    ),
    config=st.sampled_from(CONFIGS),
)
def test_a_build_with_it_is_that_without(tmp_path_factory, features, config):
    arrays = {f"{name}.npy": np.zeros((ROWS, *shape), dtype) for name, (dtype, shape) in features.items()}
    arrays |= {"more.npy": np.ones((ROWS, 2), np.float32)}
    root = write_files(tmp_path_factory.mktemp("arrays"), arrays)
    text = inspect(root, config).as_yaml()
    assert same(root, config, text)
    assert same(root, config, uncommented(text))


@pytest.mark.parametrize(
    ("contents", "config"),
    [
        ({f"images/{n:04}.npy": np.zeros((8, 8, 3), np.uint8) for n in range(12)} | {"labels.npy": np.arange(12)}, {}),
        ({f"{c}/x-{n}.npy": np.ones((4, 2)) for c in ("ash", "oak") for n in range(2)},
         {"features": {"kind": {"source": "directory"}}}),
        ({f"{split}/x.npy": np.ones((4, 2)) for split in ("train", "test")}, {}),
        ({f"x-{n}.npy": np.ones((n + 1, 3)) for n in range(4)}, {"features": {"x": {"ragged": True}}}),
        ({"cube.npy": np.ones((4, 5, 9)), "gt.npy": np.ones((4, 5), np.uint8)}, {"row_axes": 2}),
        ({"t.npy": np.zeros(9, [("a", "f4", (3,)), ("b", "i8")])}, {}),
    ],
    ids=["files", "classes", "splits", "ragged", "cube", "fields"],
)  # fmt: skip
def test_layouts_are_said_in_full(tmp_path, contents, config):
    root = write_files(tmp_path, contents)
    text = inspect(root, config).as_yaml()
    assert same(root, config, text)
    assert same(root, config, uncommented(text))


def test_it_says_what_was_chosen_and_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {f"images/{n:04}.npy": np.zeros((8, 8, 3), np.uint8) for n in range(12)} | {"labels.npy": np.arange(12)}
    write_files(tmp_path / "arrays", contents)
    text = inspect("arrays", {"seed": 3}).as_yaml()
    assert max(map(len, text.splitlines())) <= 130
    shown = re.sub(r"\n *# ", " ", text)  # comments as they were before they were wrapped
    for line in (
        "# What npyflow chose for arrays: 12 rows in 12 parts. docs/options.md has all that can be said.\n\nfeatures:",
        "uint8, 8 x 8 x 3 one row a file, as 12 files have the shape (8, 8, 3) input, as its name ends in none of ",
        "uint8 with 1, 3 or 4 channels last is taken to be a picture\n  images:\n    role: input  # what it is to ",
        " indicator: false  # whether a feature NAME_missing tells",
        "  labels:\n    role: label\n",
        " nothing is said of splits, so they are train 0.8, validation 0.1, test 0.1, by a hash of each row's place; ",
        "\nsplits: {train: 0.8, validation: 0.1, test: 0.1}  # ",
        "\nseed: 3  # another number draws",
        " filter: null  # which rows are kept",
    ):
        assert line in shown


def test_every_key_is_there():
    assert {*OF_DATASET, "features"} == set(DatasetConfig.model_fields)
    assert set(OF_FEATURE) == set(FeatureConfig.model_fields)


def test_a_path_is_no_line_of_it(tmp_path):
    root = write_files(tmp_path / "a\nseed: 7\n\x1b[1m", {"x.npy": np.ones(5)})
    text = inspect(root).as_yaml()
    assert "\x1b" not in text
    assert r"\nseed: 7\n" in text.replace("\n# ", " ")
    assert same(root, {}, text)


def test_a_data_set_has_none(tmp_path):
    rows = {"x": np.ones((4, 2), np.float32)}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=2, features=shards.specs(rows))
    with pytest.raises(ConfigError, match=r"expected sources, .*; found a data set"):
        inspect(tmp_path / "out").as_yaml()
