"""What a user may write, and what is said of mistakes; of the steps see `test_methods`."""

import pytest
import yaml

from pipelines.config.schema import DatasetConfig, load_config
from pipelines.errors import ConfigError
from pipelines.steps.scaling import MinMax


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("bogus: 1", ["bogus: unknown key; the keys are features, splits"]),
        ("features: {x: {normalise: zscore}}", ["features.x.normalise: unknown key; the keys are files, role"]),
        ("rows_per_record: true", ["rows_per_record", "expected an integer", "True"]),
        ("features: {x: {over: batch}}", ["features.x.over", "'element', 'channel' or 'all'", "'batch'"]),
        ("features: {x: {dtype: float80}}", ["features.x.dtype", "'float32'", "'float80'"]),
        ("features: {x: {role: target}}", ["features.x.role", "'input', 'label', 'weight' or 'id'", "'target'"]),
        ("features: {x: {row_axes: -1}}", ["features.x.row_axes", "at least 0", "found -1"]),
        ("splits: {train: 0.5, test: 0.4}", ["splits", "add up to 1", "0.9"]),
        ("splits: {train: 1.5, test: -0.5}", ["splits", "each fraction is in (0, 1]"]),
        ("splits: {a/b: 1.0}", ["splits", "directory's name"]),
        ("splits: {transform: 1.0}", ["splits", "'transform'"]),
        ("splits: {}", ["splits", "at least one split"]),
        ("splits: folders", ["splits", "'directory'", "'folders'"]),
        ("seed: -1", ["seed", "at least 0", "-1"]),
        ("shard_bytes: 0", ["shard_bytes", "at least 1"]),
        ("shard_bytes: 3 QiB", ["shard_bytes", "QiB"]),
        ("rows_per_record: 0", ["rows_per_record", "at least 1"]),
        ("- a", ["expected a mapping of keys to values; found list"]),
        ("a: [", ["the configuration: expected YAML; line 1, column 5: expected the node content"]),
        (
            "seed: 1\n\tsplits: 2",
            ["the configuration: expected YAML; line 2, column 1: found character '\\t' that cannot"],
        ),
        ("a: 2020-13-01", ["the configuration: expected YAML; found month must be in 1..12"]),
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


def test_settings_change_single_keys():
    config = load_config(
        "features: {x: {over: all}}\nsplits: {train: 1.0}",
        ["features.x.normalize=minmax", "splits.train=0.5", "splits.test=0.5", "shard_bytes=1MiB", "seed=3"],
    )
    assert config.features["x"].over == "all"
    assert config.features["x"].normalize == (MinMax(),)
    assert config.splits == {"train": 0.5, "test": 0.5}
    assert (config.shard_bytes, config.seed) == (2**20, 3)


@pytest.mark.parametrize("setting", ["seed", "=3", "seed.x.y=1", "seed=["])
def test_a_setting_that_is_none(setting):
    with pytest.raises(ConfigError):
        load_config("seed: 1", [setting])


@pytest.mark.parametrize("setting", ["features.'a.b'.over=all", 'features."a.b".over=all'])
def test_a_name_with_a_dot_stands_in_quotes(setting):
    assert load_config("", [setting]).features["a.b"].over == "all"
    with pytest.raises(ConfigError, match=r"features\.'a\.b'\.normalize=none for a feature with a dot"):
        load_config("", ["features.'a.b=1"])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("sead: 1", "seed"),
        ("features: {x: {normalise: zscore}}", "normalize"),
        ("features: {x: {normalize: z-score}}", "zscore"),
        ("features: {x: {normalize: Min_Max}}", "minmax"),
        ("features: {x: {impute: meen}}", "mean"),
        ("features: {x: {role: lable}}", "label"),
        ("features: {x: {normalize: {vocabulary: {sizes: 3}}}}", "size"),
    ],
)
def test_what_was_meant_is_asked(text, meant):
    with pytest.raises(ConfigError, match=rf"did you mean {meant}\?"):
        load_config(text)
    with pytest.raises(ConfigError) as raised:
        load_config("zzz: 1")
    assert "did you mean" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: abc", "seed: expected an integer; found 'abc'"),
        ("shard_bytes: lots", "shard_bytes: expected a size such as 64MiB; found 'lots'"),
        ("features: {x: 3}", "features.x: expected a mapping of keys to values; found 3"),
        ("features: {x: {ragged: 3}}", "features.x.ragged: expected true or false; found 3"),
        ("features: {x: {by: 3}}", "features.x.by: expected text; found 3"),
        ("seed: -1", "seed: expected at least 0; found -1"),
    ],
)
def test_messages_are_in_a_users_words(text, expected):
    with pytest.raises(ConfigError) as raised:
        load_config(text)
    assert str(raised.value).splitlines()[1:] == [f"  {expected}"]


BOMB = "a: &a [x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)
DEEP = "a: " + "[" * 3000 + "]" * 3000


@pytest.mark.timeout(60)  # some parsers take minutes over these
@pytest.mark.parametrize(
    ("text", "setting", "expected"),
    [
        (DEEP, "seed=1", "at most 50 levels; found more in line 1"),
        ("", f"features.x={DEEP[3:]}", "at most 50 levels"),
        ("a: " + "{a: " * 3000 + "}" * 3000, "seed=1", "at most 50 levels"),
        (BOMB, "seed=1", "at most 1,000,000 keys and values; found"),
    ],
)
def test_deep_and_swelling_text_is_refused_at_once(text, setting, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config(text, [setting])


def test_keys_with_nothing_after_them_say_nothing():
    assert load_config("features:") == load_config("features: {}") == DatasetConfig()
    assert load_config("features:\n  x:\n").features["x"] == load_config("features: {x: {}}").features["x"]


def test_fractions_may_be_written_as_fractions():
    assert load_config("splits: {train: 1/3, test: 2/3}").splits == {"train": 1 / 3, "test": 2 / 3}


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
