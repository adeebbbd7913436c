"""Frames against the reference: `tf.train.Example`, `tf.io.TFRecordWriter` and what `tf.io` parses back."""

import numpy as np
import pytest
import tensorflow as tf
from arrays import DTYPES, values
from hypothesis import given
from hypothesis import strategies as st

from loaders.spec import FeatureSpec
from pipelines.encode import encode_records, masked_crc32c, padded_varints, record_bytes, record_layout


def reference_example(columns, specs, rows_per_record):
    """The record as the protobuf library makes it."""
    example = tf.train.Example()
    for spec in specs:
        feature, array = example.features.feature[spec.name], columns[spec.name]
        encoding = spec.encoding(rows_per_record)
        if encoding == "bytes_list":
            feature.bytes_list.value.append(array.astype(spec.numpy_dtype).tobytes())
        else:
            getattr(feature, encoding).value.extend(array.ravel().tolist())
    return example


def make_columns(specs, rows):
    return {
        spec.name: values((rows, *spec.shape), spec.dtype, seed=number).astype(spec.numpy_dtype)
        for number, spec in enumerate(specs)
    }


def write(path, frames):
    path.write_bytes(frames.tobytes())
    return str(path)


@pytest.mark.parametrize("rows_per_record", [1, 3])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_records_are_examples(dtype, shape, rows_per_record, tmp_path):
    specs = (FeatureSpec(name="a", dtype=dtype, shape=shape), FeatureSpec(name="ü b", dtype="float32", shape=()))
    columns = make_columns(specs, 4 * rows_per_record)
    layout = record_layout(specs, rows=rows_per_record, rows_per_record=rows_per_record)
    frames = encode_records(layout, columns)
    assert frames.shape == (4, record_bytes(specs, rows_per_record))
    records = list(tf.data.TFRecordDataset(write(tmp_path / "shard", frames)).as_numpy_iterator())
    for number, record in enumerate(records):
        rows = slice(number * rows_per_record, (number + 1) * rows_per_record)
        found = tf.train.Example.FromString(record)
        expected = reference_example({name: array[rows] for name, array in columns.items()}, specs, rows_per_record)
        # As text: NaN is not equal to itself.
        assert str(found) == str(expected)


def test_frames_are_those_of_the_tfrecord_writer(tmp_path):
    """Byte for byte, where no int64 is written as a padded varint."""
    specs = (FeatureSpec(name="a", dtype="uint8", shape=(70,)), FeatureSpec(name="b", dtype="float32", shape=(3,)))
    columns = make_columns(specs, 6)
    frames = encode_records(record_layout(specs, rows=2, rows_per_record=2), columns)
    with tf.io.TFRecordWriter(str(tmp_path / "reference")) as writer:
        for start in range(0, 6, 2):
            piece = {name: array[start : start + 2] for name, array in columns.items()}
            writer.write(reference_example(piece, specs, 2).SerializeToString(deterministic=True))
    assert frames.tobytes() == (tmp_path / "reference").read_bytes()


def test_one_row_a_record_is_parsed_by_fixed_len_features(tmp_path):
    specs = (FeatureSpec(name="label", dtype="int64", shape=()), FeatureSpec(name="x", dtype="float32", shape=(2, 2)))
    columns = {"label": np.array([0, -1, 2**63 - 1, -(2**63)]), "x": np.arange(16, dtype=np.float32).reshape(4, 2, 2)}
    frames = encode_records(record_layout(specs, rows=1, rows_per_record=1), columns)
    dataset = tf.data.TFRecordDataset(write(tmp_path / "shard", frames)).batch(4)
    spec = {"label": tf.io.FixedLenFeature([], tf.int64), "x": tf.io.FixedLenFeature([2, 2], tf.float32)}
    (parsed,) = dataset.map(lambda records: tf.io.parse_example(records, spec)).as_numpy_iterator()
    for name, expected in columns.items():
        np.testing.assert_array_equal(parsed[name], expected)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_padded_varints_are_read_by_protobuf(numbers):
    encoded = padded_varints(np.array(numbers, dtype=np.int64)).tobytes()
    size = len(encoded)
    assert size == 10 * len(numbers)
    feature = tf.train.Feature.FromString(_delimited(0x1A, _delimited(0x0A, encoded)))
    assert list(feature.int64_list.value) == numbers


def _delimited(tag, data):
    size, length = len(data), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([tag, *length, size]) + data


def test_masked_crc():
    # The check value of CRC-32C over "123456789" is e3069283 (RFC 3720, B.4, gives the polynomial).
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_golden_frame():
    """The bytes on disk never change without a new format version."""
    specs = (FeatureSpec(name="n", dtype="int64", shape=()), FeatureSpec(name="x", dtype="float32", shape=(2,)))
    columns = {"n": np.array([1, -1]), "x": np.array([[1.5, -2.0], [0.0, np.inf]], dtype=np.float32)}
    single = encode_records(record_layout(specs, rows=1, rows_per_record=1), columns)
    group = encode_records(record_layout(specs, rows=2, rows_per_record=2), columns)
    assert [frame.tobytes().hex() for frame in single] == SINGLE
    assert [frame.tobytes().hex() for frame in group] == GROUP


SINGLE = [
    (
        "2a00000000000000ae8d91f50a280a130a016e120e1a0c0a0a818080808080808080000a110a0178120c120a0a080000c03f"
        "000000c02425821e"
    ),
    (
        "2a00000000000000ae8d91f50a280a130a016e120e1a0c0a0affffffffffffffffff010a110a0178120c120a0a0800000000"
        "0000807fe756a73e"
    ),
]
GROUP = [
    (
        "3800000000000000a3797d570a360a190a016e12140a120a100100000000000000ffffffffffffffff0a190a017812141212"
        "0a100000c03f000000c0000000000000807f29313c94"
    ),
]
