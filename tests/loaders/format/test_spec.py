import msgspec
import numpy as np
import pytest

from loaders.format.spec import DTYPES, FeatureSpec


def test_dtypes_are_numpy_names():
    *numbers, string = DTYPES
    assert [np.dtype(name).name for name in numbers] == numbers
    assert (len(numbers), string) == (14, "string")


def test_sizes_of_a_row():
    feature = FeatureSpec(name="image", dtype="uint16", shape=(3, 5))

    assert (feature.row_elements, feature.row_bytes, feature.numpy_dtype.str) == (15, 30, "<u2")
    assert FeatureSpec(name="label", dtype="int64", shape=()).row_elements == 1


@pytest.mark.parametrize(
    ("dtype", "rows_per_record", "expected"),
    [
        ("float32", 1, "float_list"),
        ("float32", 64, "float_list"),
        ("int64", 1, "int64_list"),
        ("int64", 64, "bytes_list"),
        ("float64", 1, "bytes_list"),
        ("uint8", 1, "bytes_list"),
        ("bool", 64, "bytes_list"),
    ],
)
def test_encoding(dtype, rows_per_record, expected):
    assert FeatureSpec(name="x", dtype=dtype, shape=()).encoding(rows_per_record) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "needs a name"),
        ({"dtype": "datetime64[ns]"}, r"x: dtype is one of .*'datetime64\[ns\]'"),
        ({"role": "target"}, "x: role is one of input, label, weight, id; found 'target'"),
        ({"shape": (3, 0)}, r"x: every axis .*\(3, 0\)"),
        ({"shape": (3, None)}, r"x: every axis .* only the first axis may be None; found float32 of shape \(3, None\)"),
        ({"shape": (None,), "dtype": "string"}, r"x: every axis .* found string of shape \(None,\)"),
    ],
)
def test_what_is_not_allowed_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        FeatureSpec(**({"name": "x", "dtype": "float32", "shape": (3,)} | change))


def test_rows_that_differ_in_size():
    ragged = FeatureSpec(name="x", dtype="int16", shape=(None, 2, 3))
    strings = FeatureSpec(name="x", dtype="string", shape=(4,))

    assert (ragged.ragged, ragged.variable, ragged.inner_shape, ragged.row_elements) == (True, True, (2, 3), 6)
    assert (strings.ragged, strings.variable, strings.inner_shape, strings.row_elements) == (False, True, (4,), 4)
    assert {ragged.encoding(1), strings.encoding(1)} == {"bytes_list"}
    for feature in (ragged, strings):
        with pytest.raises(ValueError, match=r"x: rows of .* have no common size"):
            _ = feature.row_bytes


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_ragged_rows_are_strings_of_bytes(dtype):
    assert FeatureSpec(name="x", dtype=dtype, shape=(None,)).encoding(1) == "bytes_list"


@pytest.mark.parametrize("shape", [(2,), (None, 2)])
def test_json_round_trip(shape):
    feature = FeatureSpec(
        name="label", dtype="uint8", shape=shape, role="label", class_names=("corn", "säen"), unit="datetime64[ns]"
    )

    assert msgspec.json.decode(msgspec.json.encode(feature), type=FeatureSpec) == feature
