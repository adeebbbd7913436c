"""Row filters: how a text is read, and which rows pass."""

import numpy as np
import pytest

from loaders.order.row_filter import RowFilter, filter_operand, parse_filter, passes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("keep", ("keep", "", "")),
        (" a/b c ", ("a/b c", "", "")),
        ("label != 0", ("label", "!=", "0")),
        ("label<=-1.5e3", ("label", "<=", "-1.5e3")),
        ("site == north", ("site", "==", "north")),
        ("site == 'north or south'", ("site", "==", "north or south")),
        ('site > "a=b"', ("site", ">", "a=b")),
    ],
)
def test_filters(text, expected):
    feature, operator, value = expected
    assert parse_filter(text) == RowFilter(feature=feature, operator=operator, value=value)


def test_the_operand_is_of_the_features_kind():
    assert filter_operand(parse_filter("x == 2"), "int64") == 2
    assert isinstance(filter_operand(parse_filter(f"x == {2**63 + 1}"), "uint64"), int)
    assert filter_operand(parse_filter("x == 2.5"), "float32") == 2.5
    assert filter_operand(parse_filter("x == 2"), "string") == b"2"
    assert filter_operand(parse_filter("x == 'zürich'"), "string") == "zürich".encode()


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("x", np.array([True, False]), [True, False]),
        ("x", np.array([[2], [0]], np.int16), [True, False]),
        ("x != 3", np.array([3, 4, -3], np.int8), [False, True, True]),
        ("x < 300", np.array([3, 255], np.uint8), [True, True]),
        ("x >= 0.5", np.array([0.5, np.nan, 0.25], np.float32), [True, False, False]),
        ("x == b", np.array([b"a", b"b"], object), [False, True]),
        ("x == b", np.array([b"a", b"b"]), [False, True]),
    ],
)
def test_values_are_compared_as_numpy_does_it(text, values, expected):
    found = passes(parse_filter(text), values)

    assert (found.dtype, found.tolist()) == (np.bool_, expected)
