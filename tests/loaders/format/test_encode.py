"""Frames against the reference: `tf.train.Example`, `tf.io.TFRecordWriter` and what `tf.io` parses back."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from loaders.format.decode import RecordError, parse
from loaders.format.encode import delimit, encode_records, encode_variable_records, padded_varints
from loaders.format.record_layout import masked_crc32c, record_bytes, record_layout
from loaders.format.spec import FeatureSpec
from pipelines.reading.batches import Ragged
from tests.support.arrays import DTYPES, values


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


@given(
    st.lists(
        st.tuples(st.sampled_from(["float32", "int64", "uint8", "bool"]), st.integers(1, 300)), min_size=1, max_size=3
    ),
    st.integers(1, 40),
    st.data(),
)
def test_the_size_of_a_record_is_that_of_its_layout(columns, rows_per_record, data):
    features = tuple(FeatureSpec(name="x" * 60 * n + str(n), dtype=d, shape=(s,)) for n, (d, s) in enumerate(columns))
    rows = data.draw(st.integers(1, rows_per_record))
    layout = record_layout(features, rows=rows, rows_per_record=rows_per_record)

    assert record_bytes(features, rows_per_record, rows=rows) == layout.frame_bytes


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


def string_columns(lengths, specs, seed=0):
    """Rows of which ragged features have `lengths`."""
    columns = {}
    for number, spec in enumerate(specs):
        if spec.ragged:
            steps = values((sum(lengths), *spec.inner_shape), spec.dtype, seed=seed + number).astype(spec.numpy_dtype)
            columns[spec.name] = Ragged(values=steps, lengths=np.array(lengths, dtype=np.int64))
        elif spec.dtype == "string":
            texts = [
                b"" if (row * 7 + k) % 3 == 0 else b"x\0y" * (row + k) for row in range(len(lengths)) for k in range(2)
            ]
            columns[spec.name] = np.array(texts, "S").reshape(-1, 2)[:, : spec.row_elements].reshape(-1, *spec.shape)
        else:
            columns[spec.name] = values((len(lengths), *spec.shape), spec.dtype, seed=seed + number)
    return columns


VARIABLE = (
    FeatureSpec(name="a", dtype="string", shape=(2,)),
    FeatureSpec(name="b", dtype="int64", shape=()),
    FeatureSpec(name="c", dtype="float64", shape=(None, 3)),
    FeatureSpec(name="d", dtype="float32", shape=(2,)),
    FeatureSpec(name="e", dtype="bool", shape=(None,)),
    FeatureSpec(name="f", dtype="complex64", shape=(2,)),
    FeatureSpec(name="ü", dtype="string", shape=()),
)


def variable_example(columns, specs, rows_per_record, rows):
    """The record of some rows as the protobuf library makes it."""
    example = tf.train.Example()
    for spec in specs:
        feature, column = example.features.feature[spec.name], columns[spec.name]
        if spec.ragged:
            ends = np.cumsum(column.lengths)
            for row in range(*rows.indices(len(ends))):
                steps = column.values[ends[row] - column.lengths[row] : ends[row]]
                feature.bytes_list.value.append(steps.tobytes())
        elif spec.dtype == "string":
            feature.bytes_list.value.extend(column[rows].ravel().tolist())
        elif (encoding := spec.encoding(rows_per_record)) == "bytes_list":
            feature.bytes_list.value.append(column[rows].tobytes())
        else:
            getattr(feature, encoding).value.extend(column[rows].ravel().tolist())
    return example


@pytest.mark.parametrize("rows_per_record", [1, 3])
def test_records_of_rows_that_differ_are_examples(rows_per_record, tmp_path):
    lengths = [0, 2, 0, 41, 1, 700, 3, 0, 9, 1, 1, 1]
    columns = string_columns(lengths, VARIABLE)

    frames = encode_variable_records(VARIABLE, columns, rows=rows_per_record, rows_per_record=rows_per_record)
    path = tmp_path / "shard"
    path.write_bytes(b"".join(frames))
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())

    assert len(records) == len(frames) == 12 // rows_per_record
    for number, record in enumerate(records):
        rows = slice(number * rows_per_record, (number + 1) * rows_per_record)
        expected = variable_example(columns, VARIABLE, rows_per_record, rows)
        assert str(tf.train.Example.FromString(record)) == str(expected)  # as text: NaN is not equal to itself
        assert len(frames[number]) == len(record) + 16


def test_frames_of_rows_that_differ_are_those_of_the_protobuf_library():
    """Byte for byte, where no int64 is written as a padded varint."""
    specs = tuple(spec for spec in VARIABLE if spec.name != "b")
    columns = string_columns([3, 0, 5], specs)

    (frame,) = encode_variable_records(specs, columns, rows=3, rows_per_record=4)

    expected = variable_example(columns, specs, 4, slice(0, 3)).SerializeToString(deterministic=True)
    assert frame[12:-4] == expected


def test_fixed_features_have_the_layout_that_they_have_alone():
    """A string beside them changes nothing in their bytes."""
    fixed, text = (VARIABLE[1], VARIABLE[3]), FeatureSpec(name="z", dtype="string", shape=())
    columns = string_columns([0, 0], (*fixed, text))
    layout = record_layout(fixed, rows=1, rows_per_record=1)

    alone = encode_records(layout, columns)
    beside = encode_variable_records((*fixed, text), columns, rows=1, rows_per_record=1)

    for one, other in zip(alone, beside, strict=True):
        message = one.tobytes()[12:-4]
        assert message[2:] in other


def test_no_rows_are_no_records():
    assert encode_variable_records(VARIABLE, string_columns([], VARIABLE), rows=2, rows_per_record=2) == []


@given(st.lists(st.sampled_from([0, 1, 2, 127, 128, 16383, 16384, 2**21]), max_size=8))
def test_fields_of_strings_are_those_of_protobuf(lengths):
    data = np.random.default_rng(0).integers(0, 256, sum(lengths), dtype=np.uint8)
    pieces = np.split(data, np.cumsum(lengths)[:-1]) if lengths else []

    encoded, ends = delimit(data, np.array(lengths, dtype=np.int64))

    expected = tf.train.BytesList(value=[piece.tobytes() for piece in pieces])
    assert encoded.tobytes() == expected.SerializeToString()
    assert ends.tolist() == [
        len(tf.train.BytesList(value=expected.value[: n + 1]).SerializeToString()) for n in range(len(lengths))
    ]


def test_golden_frame_of_rows_that_differ():
    specs = (FeatureSpec(name="s", dtype="string", shape=()), FeatureSpec(name="v", dtype="int16", shape=(None,)))
    columns = {
        "s": np.array([b"ab", b"", b"c"]),
        "v": Ragged(values=np.array([1, -1, 258], dtype=np.int16), lengths=np.array([2, 0, 1])),
    }
    frames = encode_variable_records(specs, columns, rows=3, rows_per_record=3)
    assert [frame.hex() for frame in frames] == VARIABLE_GROUP


VARIABLE_GROUP = [
    (
        "290000000000000037ff5f000a270a100a0173120b0a090a0261620a000a01630a130a0176120e0a0c0a040100ffff0a000a"
        "0202017f57e4d1"
    ),
]


def parsed(data, specs, rows, rows_per_record):
    """All columns of a record."""
    names = frozenset(spec.name for spec in specs)
    return parse(data, specs, names=names, rows=rows, rows_per_record=rows_per_record)


@pytest.mark.parametrize("rows_per_record", [1, 3])
def test_the_parser_reads_what_was_encoded(rows_per_record):
    columns = string_columns([0, 2, 5], VARIABLE)
    frames = encode_variable_records(VARIABLE, columns, rows=rows_per_record, rows_per_record=rows_per_record)

    found = [parsed(frame[12:-4], VARIABLE, rows_per_record, rows_per_record) for frame in frames]

    assert [text for record in found for text in record["a"].ravel()] == columns["a"].ravel().tolist()
    assert b"".join(row for record in found for row in record["c"]) == columns["c"].values.tobytes()
    assert [len(row) for record in found for row in record["e"]] == [0, 2, 5]
    for name in ("b", "d", "f"):
        assert b"".join(record[name].tobytes() for record in found) == columns[name].tobytes()


@pytest.mark.parametrize("rows_per_record", [1, 3])
def test_the_parser_refuses_every_change_of_the_layout(rows_per_record):
    specs = (VARIABLE[0], VARIABLE[2], VARIABLE[1])
    columns = string_columns([0, 2, 5], specs)
    frame = encode_variable_records(specs, columns, rows=rows_per_record, rows_per_record=rows_per_record)[-1]
    data, rows = frame[12:-4], rows_per_record

    for other, count in ((specs[:2], rows), (specs, rows + 1), ((*specs, VARIABLE[4]), rows), (VARIABLE[4:], rows)):
        with pytest.raises(RecordError):
            parsed(data, other, count, rows_per_record)
    for end in range(len(data)):
        with pytest.raises(RecordError):
            parsed(data[:end], specs, rows, rows_per_record)
    with pytest.raises(RecordError, match="more bytes"):
        parsed(data + b"\n", specs, rows, rows_per_record)
    wider = dataclasses.replace(specs[1], shape=(None, 7))
    with pytest.raises(RecordError, match=r"expected rows of steps of \d+ bytes in feature c; found one of"):
        parsed(data, (specs[0], wider, specs[2]), rows, rows_per_record)


def test_the_parser_refuses_bytes_after_the_values_at_any_depth():
    """A list, a value, an entry or the map that is longer by a field that no feature has."""
    spec = FeatureSpec(name="x", dtype="int16", shape=())
    values = b"\x01\x00"

    def message(after):
        content = values
        for depth, tag in enumerate((0x0A, 0x0A)):
            content = _delimited(tag, content) + (b"\x32\x00" if depth == after else b"")
        content = _delimited(0x12, content) + (b"\x32\x00" if after == 2 else b"")
        content = _delimited(0x0A, _delimited(0x0A, b"x") + content) + (b"\x32\x00" if after == 3 else b"")
        return _delimited(0x0A, content) + (b"\x32\x00" if after == 4 else b"")

    assert parsed(message(None), (spec,), 1, 1)["x"].tolist() == [1]
    for depth in range(5):
        with pytest.raises(RecordError, match="more bytes"):
            parsed(message(depth), (spec,), 1, 1)
