import numpy as np
import pytest
import tensorflow as tf

from loaders.format.spec import FeatureSpec
from loaders.tensorflow import decode
from tests.support import shards
from tests.support.bits import DTYPES, SHAPES, any_bits, assert_same_bits


def all_features(rows, shape):
    return {f"{dtype}_{len(shape)}": any_bits(dtype, (rows, *shape), seed) for seed, dtype in enumerate(DTYPES)}


@pytest.mark.parametrize("shape", [*SHAPES, (decode.SMALL_BYTES + 1,)])
@pytest.mark.parametrize("counts", [(5,), (3,), (5, 5), (5, 1, 3, 5)], ids=str)
def test_row_groups_come_back_bit_for_bit(shape, counts):
    rows = all_features(sum(counts), shape)
    # The encoder takes float32 through float64, which changes the bits of some of so many NaNs.
    rows = {name: values for name, values in rows.items() if shape in SHAPES or values.dtype != np.float32}
    features = shards.specs(rows)
    ends = np.cumsum(counts)
    records = [
        shards.encode({name: values[end - count : end] for name, values in rows.items()}, features, 5)
        for end, count in zip(ends, counts, strict=True)
    ]

    found = tf.function(decode.parse_row_groups)(
        tf.constant(records), tf.constant(sum(counts), tf.int64), features=features, full=5
    )

    assert list(found) == sorted(rows)
    for name, values in rows.items():
        assert_same_bits(found[name], values)


@pytest.mark.parametrize("shape", SHAPES)
def test_single_rows_come_back_bit_for_bit(shape):
    rows = all_features(4, shape)
    features = shards.specs(rows)
    records = [shards.encode({name: v[i : i + 1] for name, v in rows.items()}, features, 1) for i in range(4)]

    found = tf.function(decode.parse_single_rows)(tf.constant(records), features=features)

    for name, values in rows.items():
        assert_same_bits(found[name], values)


@pytest.mark.parametrize("name", ["float32_1", "uint8_1"])
def test_a_record_of_another_number_of_rows_is_refused(name):
    rows = {name: all_features(3, (2,))[name]}
    features = shards.specs(rows)
    record = tf.constant([shards.encode(rows, features, 4)])

    for count in (2, 4):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode.parse_row_groups(record, tf.constant(count, tf.int64), features=features, full=4)


def test_a_missing_feature_is_named():
    record = shards.encode({"a": np.zeros(2, "u1")}, shards.specs({"a": np.zeros(2, "u1")}), 2)

    with pytest.raises(tf.errors.InvalidArgumentError, match="b"):
        decode.parse_row_groups(
            tf.constant([record]),
            tf.constant(2, tf.int64),
            features=[FeatureSpec(name="b", dtype="uint8", shape=())],
            full=2,
        )


def feature(name, role):
    return FeatureSpec(name=name, dtype="float32", shape=(), role=role)


def test_arranger_gives_all_as_a_dict():
    features = [feature("a", "input"), feature("b", "id")]
    needed, arrange = decode.arranger(features, as_supervised=False)

    assert needed == tuple(features)
    assert arrange({"a": 1, "b": 2}) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({"a": "input", "b": "label"}, ("a", "b")),
        ({"a": "label", "b": "input", "c": "input"}, ({"b": "b", "c": "c"}, "a")),
        ({"a": "input", "b": "label", "c": "label", "d": "weight"}, ("a", {"b": "b", "c": "c"}, "d")),
        ({"a": "input", "b": "id", "c": "label"}, ("a", "c")),
    ],
)
def test_arranger_splits_by_role(roles, expected):
    needed, arrange = decode.arranger([feature(*item) for item in roles.items()], as_supervised=True)

    assert {f.name for f in needed} == {name for name, role in roles.items() if role != "id"}
    assert arrange({f.name: f.name for f in needed}) == expected


@pytest.mark.parametrize(("present", "missing"), [("input", "label"), ("label", "input")])
def test_supervised_needs_an_input_and_a_label(present, missing):
    with pytest.raises(ValueError, match=rf"expects a feature with the role '{missing}'; found a \({present}\)"):
        decode.arranger([feature("a", present)], as_supervised=True)
