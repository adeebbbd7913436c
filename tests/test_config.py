"""What a user may write, what is chosen where nothing is said, and that the resolved form resolves to itself."""

import numpy as np
import pytest
import yaml

from pipelines.config import Constant, DatasetConfig, Scale, load_config, resolve_feature
from pipelines.errors import ConfigError


def resolve(source_dtype, shape, name="x", **said):
    config = DatasetConfig.model_validate({"features": {name: said}})
    return resolve_feature(name, np.dtype(source_dtype), shape, config)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "expected"),
    [
        ("features", "float32", (32,), ("input", "mean", "zscore", "element", "float32")),
        ("features", "float64", (), ("input", "mean", "zscore", "element", "float32")),
        ("images", "uint8", (28, 28, 3), ("input", "none", "zscore", "channel", "float32")),
        ("images", "uint8", (28, 28, 1), ("input", "none", "zscore", "channel", "float32")),
        ("images", "uint8", (28, 28), ("input", "none", "zscore", "all", "float32")),
        ("images", "uint8", (784,), ("input", "none", "zscore", "element", "float32")),
        ("bands", "uint16", (200,), ("input", "none", "zscore", "element", "float32")),
        ("tokens", "int64", (128,), ("input", "none", "none", "element", "int64")),
        ("count", "int32", (), ("input", "none", "none", "element", "int32")),
        ("level", "uint8", (), ("input", "none", "none", "element", "uint8")),
        ("mask", "bool", (28, 28), ("input", "none", "none", "element", "bool")),
        ("labels", "int64", (), ("label", "none", "none", "element", "int64")),
        ("labels", "int64", (1,), ("label", "none", "none", "element", "int64")),
        ("y", "uint8", (), ("label", "none", "none", "element", "uint8")),
        ("Indian_pines_gt", "uint8", (), ("label", "none", "none", "element", "uint8")),
        ("target", "float32", (), ("label", "none", "none", "element", "float32")),
        ("labels", "uint8", (10,), ("label", "none", "none", "element", "uint8")),
        ("gt", "uint8", (64, 64), ("label", "none", "none", "element", "uint8")),
    ],
)
def test_what_is_chosen_where_nothing_is_said(name, dtype, shape, expected):
    found = resolve_feature(name, np.dtype(dtype), shape, DatasetConfig())
    assert (found.spec.role, found.impute, found.normalize, found.over, found.spec.dtype) == expected


def test_what_is_said_is_kept():
    found = resolve(
        "float64", (3, 2), impute={"constant": -1}, normalize={"scale": "1/255"}, over="all", dtype="float16"
    )
    assert found.impute == Constant(constant=-1)
    assert found.normalize == Scale(scale=1 / 255)
    assert (found.over, found.spec.dtype, found.statistics_shape) == ("all", "float16", ())


@pytest.mark.parametrize(("over", "shape"), [("element", (4, 3)), ("channel", (3,)), ("all", ())])
def test_the_shape_of_a_statistic(over, shape):
    assert resolve("float32", (4, 3), over=over).statistics_shape == shape


@pytest.mark.parametrize(
    ("dtype", "said", "stored"),
    [
        ("float64", {"normalize": "none"}, "float64"),
        ("float16", {"normalize": "none"}, "float16"),
        ("float64", {"impute": "none", "normalize": "none", "dtype": "float32"}, "float32"),
        ("uint8", {"normalize": "none", "dtype": "int64"}, "int64"),
        ("uint16", {"normalize": "none", "dtype": "float32"}, "float32"),
        ("float32", {"dtype": "float64"}, "float64"),
    ],
)
def test_the_stored_dtype(dtype, said, stored):
    assert resolve(dtype, (2,), **said).spec.dtype == stored


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("bogus: 1", ["bogus: unknown key; the keys are features, splits"]),
        ("features: {x: {normalise: zscore}}", ["features.x.normalise: unknown key; the keys are files, role"]),
        (
            "features: {x: {impute: {constants: 0}}}",
            ["features.x.impute", "unknown key constants; the keys are constant"],
        ),
        ("features: {x: {normalize: {scale: 1e400}}}", ["features.x.normalize", "finite"]),
        ("features: {x: {normalize: {scale: 0}}}", ["features.x.normalize", "other than 0"]),
        ("rows_per_record: true", ["rows_per_record", "valid integer", "True"]),
        ("features: {x: {normalize: median}}", ["features.x.normalize", "'none', 'zscore' or 'minmax'", "'median'"]),
        ("features: {x: {normalize: {scale: 1/0}}}", ["features.x.normalize", "a fraction such as 1/255", "'1/0'"]),
        ("features: {x: {impute: {constant: .nan}}}", ["features.x.impute", "finite"]),
        ("features: {x: {over: batch}}", ["features.x.over", "'element', 'channel' or 'all'", "'batch'"]),
        ("features: {x: {dtype: complex64}}", ["features.x.dtype", "'float32'", "'complex64'"]),
        ("features: {x: {role: target}}", ["features.x.role", "'input', 'label', 'weight' or 'id'", "'target'"]),
        ("features: {x: {row_axes: 0}}", ["features.x.row_axes", "greater than or equal to 1", "found 0"]),
        ("splits: {train: 0.5, test: 0.4}", ["splits", "add up to 1", "0.9"]),
        ("splits: {train: 1.5, test: -0.5}", ["splits", "each fraction is in (0, 1]"]),
        ("splits: {a/b: 1.0}", ["splits", "directory's name"]),
        ("splits: {transform: 1.0}", ["splits", "'transform'"]),
        ("splits: {}", ["splits", "at least one split"]),
        ("splits: folders", ["splits", "'directory'", "'folders'"]),
        ("seed: -1", ["seed", "greater than or equal to 0", "-1"]),
        ("shard_bytes: 0", ["shard_bytes", "greater than or equal to 1"]),
        ("shard_bytes: 3 QiB", ["shard_bytes", "QiB"]),
        ("rows_per_record: 0", ["rows_per_record", "greater than or equal to 1"]),
        ("- a", ["expected a mapping of keys to values; found list"]),
        ("a: [", ["expected YAML"]),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(text, messages):
    with pytest.raises(ConfigError) as raised:
        load_config(text)
    for message in messages:
        assert message in str(raised.value)


def test_all_mistakes_are_listed_together():
    with pytest.raises(ConfigError) as raised:
        load_config("bogus: 1\nseed: x\nfeatures: {x: {over: 1, role: 2}}")
    assert [key in str(raised.value) for key in ("bogus", "seed", "features.x.over", "features.x.role")] == [True] * 4


@pytest.mark.parametrize(
    ("dtype", "shape", "said", "messages"),
    [
        ("uint8", (3,), {"impute": "mean"}, ["features.x.impute", "uint8 has no missing value", "'mean'"]),
        ("bool", (3,), {"normalize": "zscore"}, ["features.x.normalize", "bool"]),
        ("float32", (), {"over": "channel"}, ["features.x.over", "element and all"]),
        ("float32", (3,), {"dtype": "int32"}, ["features.x.dtype", "float16, float32 or float64", "int32"]),
        ("int64", (3,), {"dtype": "int32"}, ["features.x.dtype", "int32 does not hold every value of int64"]),
    ],
)
def test_what_does_not_fit_the_arrays(dtype, shape, said, messages):
    with pytest.raises(ConfigError) as raised:
        resolve(dtype, shape, **said)
    for message in messages:
        assert message in str(raised.value)


def test_settings_change_single_keys():
    config = load_config(
        "features: {x: {over: all}}\nsplits: {train: 1.0}",
        ["features.x.normalize=minmax", "splits.train=0.5", "splits.test=0.5", "shard_bytes=1MiB", "seed=3"],
    )
    assert config.features["x"].over == "all"
    assert config.features["x"].normalize == "minmax"
    assert config.splits == {"train": 0.5, "test": 0.5}
    assert (config.shard_bytes, config.seed) == (2**20, 3)


@pytest.mark.parametrize("setting", ["seed", "=3", "seed.x.y=1", "seed=["])
def test_a_setting_that_is_none(setting):
    with pytest.raises(ConfigError):
        load_config("seed: 1", [setting])


def test_keys_with_nothing_after_them_say_nothing():
    assert load_config("features:") == load_config("features: {}") == DatasetConfig()
    assert load_config("features:\n  x:\n").features["x"] == load_config("features: {x: {}}").features["x"]


def test_fractions_may_be_written_as_fractions():
    assert load_config("splits: {train: 1/3, test: 2/3}").splits == {"train": 1 / 3, "test": 2 / 3}


@pytest.mark.parametrize("name", ["", "x/float64_bits", "a\nb", "\udcff"])
def test_names_that_no_feature_can_have(name):
    with pytest.raises(ConfigError, match="a name is printable text"):
        resolve("float32", (), name=name)


def test_class_names_are_for_integers():
    with pytest.raises(ConfigError, match=r"features.x.class_names: classes are integers; found float32"):
        resolve("float32", (), class_names=["a"])


def test_the_example_of_the_design_is_valid():
    config = load_config(
        yaml.safe_dump(
            {
                "features": {
                    "images": {"normalize": "zscore", "over": "channel"},
                    "features": {"impute": "mean", "normalize": "zscore"},
                    "labels": {"role": "label"},
                },
                "splits": {"train": 0.8, "validation": 0.1, "test": 0.1},
                "seed": 7,
                "shard_bytes": "128MiB",
            }
        )
    )
    assert config.shard_bytes == 128 * 2**20
