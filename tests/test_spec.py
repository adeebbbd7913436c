import json

import numpy as np
import pytest

from loaders.spec import DTYPES, FeatureSpec


def test_dtypes_are_numpy_names():
    assert [np.dtype(name).name for name in DTYPES] == list(DTYPES)
    assert len(DTYPES) == 12


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
        ({"dtype": "complex64"}, "x: dtype is one of .*'complex64'"),
        ({"role": "target"}, "x: role is one of input, label, weight, id; found 'target'"),
        ({"shape": (3, 0)}, r"x: every axis .*\(3, 0\)"),
    ],
)
def test_what_is_not_allowed_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        FeatureSpec(**({"name": "x", "dtype": "float32", "shape": (3,)} | change))


def test_json_round_trip():
    feature = FeatureSpec(name="label", dtype="uint8", shape=(2,), role="label", class_names=("corn", "säen"))

    assert FeatureSpec.from_json(json.loads(json.dumps(feature.to_json()))) == feature
