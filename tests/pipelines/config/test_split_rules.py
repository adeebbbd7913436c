"""The rules of splits: what a user may write, and what each mistake is told."""

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config.schema import load_config, parse_config
from pipelines.config.split_rules import (
    ColumnSplits,
    GroupSplits,
    StratifiedSplits,
    TimeSplits,
    check_rule,
    time_thresholds,
)
from pipelines.errors import ConfigError
from tests.support.specs import FEATURES


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "{group: p, fractions: {train: 3/4, test: 0.25}}",
            GroupSplits(group="p", fractions={"train": 0.75, "test": 0.25}),
        ),
        ("{stratify: y, fractions: {a: 1}}", StratifiedSplits(stratify="y", fractions={"a": 1.0})),
        ("{column: fold, names: [train, test]}", ColumnSplits(column="fold", names=("train", "test"))),
        (
            "{time: t, until: {train: 5, test: 7.5}, rest: new}",
            TimeSplits(time="t", until={"train": 5, "test": 7.5}, rest="new"),
        ),
        (
            "{time: t, until: {train: 2020-01-01, test: 2020-07-01T12:30:00+02:00}, rest: new}",
            TimeSplits(time="t", until={"train": "2020-01-01", "test": "2020-07-01T10:30:00"}, rest="new"),
        ),
    ],
)
def test_a_rule_and_its_dump(text, rule):
    config = load_config(f"splits: {text}")
    assert config.splits == rule
    assert type(config.splits) is type(rule)
    assert parse_config({"splits": rule.model_dump(mode="json")}).splits == rule


@pytest.mark.parametrize("name", ["group", "stratify", "column", "time"])
@pytest.mark.parametrize("fraction", [0.5, "1/2"])
def test_a_split_may_be_called_like_a_rule(name, fraction):
    assert parse_config({"splits": {name: fraction, "rest": 0.5}}).splits == {name: 0.5, "rest": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{group: p}", "splits by group have the keys group, fractions; found group"),
        ("{stratify: y, fractions: {a: 1}, seed: 1}", "the keys stratify, fractions; found stratify, fractions, seed"),
        ("{group: p, fractions: {a: 0.5}}", "the fractions add up to 1; found 0.5"),
        ("{group: p, fractions: {_a: 1}}", "begins with neither . nor _; found '_a'"),
        ("{column: f, names: [a, b, a]}", "each split is named once; found a, b, a"),
        ("{column: f, names: []}", "at least 1 item"),
        ("{column: f, names: [transform]}", "a split is not called 'transform'"),
        ("{time: t, until: {a: 2, b: 2}, rest: c}", "the thresholds ascend; found 2, 2"),
        ("{time: t, until: {a: 2020-02-01, b: 2020-01-31}, rest: c}", "the thresholds ascend; found 2020-02-01, 2020-"),
        ("{time: t, until: {a: 2, b: 2020-01-31}, rest: c}", "all numbers or all dates; found [2, '2020-01-31']"),
        ("{time: t, until: {a: 2}, rest: a}", "each split is named once; found a, a"),
        ("{time: t, until: {a: now}, rest: b}", "a number, or a date such as 2020-01-31 or 2020-01-31T12:00; found"),
        ("{time: t, until: {a: true}, rest: b}", "a number or a date; found True"),
        ("{time: t, until: {a: '2020-13-01'}, rest: b}", "Month out of range"),
        ("[a]", "'directory'"),
    ],
)
def test_a_mistake_in_splits(text, message):
    with pytest.raises(ConfigError) as raised:
        load_config(f"splits: {text}")
    assert "splits: " in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"group": "patient", "fractions": {"a": 1}}, "splits.group: expected a feature, one of x, label"),
        ({"group": "steps", "fractions": {"a": 1}}, "splits.group: expected rows of one shape; found steps"),
        ({"column": "x", "names": ["a"]}, r"splits.column: expected one value a row; found x, with rows of shape (4,)"),
        ({"column": "score", "names": ["a"]}, "splits.column: expected integers, the numbers of splits; found float32"),
        ({"column": "site", "names": ["a"]}, "splits.column: expected integers, the numbers of splits; found string"),
        ({"time": "site", "until": {"a": 1}, "rest": "b"}, "splits.time: expected numbers or dates; found string"),
        ({"time": "label", "until": {"a": "2020-01-01"}, "rest": "b"}, "label is not of datetime64"),
        ({"time": "at", "until": {"a": "3000-01-01"}, "rest": "b"}, "a date that datetime64[ns] can hold; found 3000"),
    ],
)
def test_a_rule_that_does_not_fit_the_features(rule, message):
    with pytest.raises(ConfigError) as raised:
        check_rule(parse_config({"splits": rule}).splits, FEATURES)
    assert message in str(raised.value)


def test_rules_that_fit_the_features():
    for rule in (
        {"group": "x", "fractions": {"a": 1}},
        {"group": "site", "fractions": {"a": 1}},
        {"column": "keep", "names": ["a"]},
        {"time": "score", "until": {"a": 1}, "rest": "b"},
        {"time": "at", "until": {"a": datetime.date(2020, 1, 1)}, "rest": "b"},
    ):
        check_rule(parse_config({"splits": rule}).splits, FEATURES)


@given(
    day=st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)),
    unit=st.sampled_from(["Y", "M", "W", "D", "h", "m", "s", "ms", "10ms", "us", "ns"]),
    near=st.integers(-2, 2),
)
def test_a_threshold_parts_the_values_that_are_before_the_date(day, unit, near):
    """The oracle: NumPy's comparison of dates of different units."""
    rule = TimeSplits(time="t", until={"a": day.isoformat()}, rest="b")
    (threshold,) = time_thresholds(rule, f"datetime64[{unit}]")
    value = threshold + near
    before = np.datetime64(value, np.datetime_data(f"datetime64[{unit}]")) < np.datetime64(day)
    assert (value < threshold) == before
