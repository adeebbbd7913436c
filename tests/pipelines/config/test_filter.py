"""The row filter of a build: how a configuration says it, and which features it fits."""

import pytest

from pipelines.config.schema import parse_config
from pipelines.config.split_rules import check_filter
from pipelines.errors import ConfigError
from tests.support.specs import FEATURES


@pytest.mark.parametrize("text", ["", "a =", "= 1", "a = 1", "a ! 1", "!=", "label !="])
def test_what_is_no_filter(text):
    with pytest.raises(ConfigError, match="filter: a feature, or a feature, one of == != <= >= < >, and a value"):
        parse_config({"filter": text})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "filter: expected a feature, one of x, label, keep"),
        ("x > 1", "filter: expected one value a row; found x, with rows of shape (4,)"),
        ("steps", "filter: expected one value a row; found steps"),
        ("label == north", "filter: expected a number to compare int64 with; found 'label == north'"),
        ("site", "filter: expected a comparison, such as site == \"word\"; found 'site'"),
        ("phase < 1", "filter: expected == or != for complex64; found 'phase < 1'"),
    ],
)
def test_a_filter_that_does_not_fit_the_features(text, message):
    with pytest.raises(ConfigError) as raised:
        check_filter(text, FEATURES)
    assert message in str(raised.value)


def test_filters_that_fit_the_features():
    for text in ("keep", "label", "score >= 0.5", "site == north", "phase != 0", "at > 5"):
        check_filter(text, FEATURES)
        assert parse_config({"filter": text}).filter == text
