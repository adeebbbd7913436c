"""`schema.pbtxt` says what lies in the records: TensorFlow's own tools read every dtype by it."""

import json
import re

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import schema_utils

from pipelines import ConfigError, inspect
from pipelines.maintain.verify import verify
from tests.support.arrays import values, write_files
from tests.support.bits import assert_same_bits
from tests.support.builds import append, build, make
from tests.support.every_dtype import rows_of_every_dtype, write_rows
from tests.support.manifests import change_manifest


def parsed(root):
    """Each row as `tf.io.parse_example` gives it by the schema, by its number."""
    schema = text_format.Parse((root / "schema.pbtxt").read_text(), schema_pb2.Schema())
    spec = schema_utils.schema_as_feature_spec(schema).feature_spec
    files = [str(path) for path in sorted(root.rglob("*.tfrecord"))]
    records = list(tf.data.TFRecordDataset(files).as_numpy_iterator())
    found = {name: value.numpy() for name, value in tf.io.parse_example(records, spec).items()}
    places = np.argsort(found["row"])
    return schema, {name: value[places] for name, value in found.items()}


@pytest.fixture(scope="module")
def rows():
    return rows_of_every_dtype(24)


@pytest.fixture(scope="module")
def built(rows, tmp_path_factory):
    root = tmp_path_factory.mktemp("schema")
    make(root / "src", root / "out", **write_rows(root / "src", rows), rows_per_record=1)
    return root


def test_every_dtype_is_parsed_and_decoded(rows, built):
    schema, found = parsed(built / "out")

    assert found.keys() == rows.keys()
    for entry in schema.feature:
        dtype = entry.annotation.tag[0]
        for row, expected in enumerate(rows[entry.name]):
            value = found[entry.name][row]
            if dtype == "string":
                assert np.array_equal(value, expected), (entry.name, row)
                continue
            if entry.type == schema_pb2.BYTES:
                value = np.frombuffer(value, dtype).reshape(expected.shape)
            assert_same_bits(value, expected)


def test_a_schema_says_what_its_bytes_hold(built):
    schema, _ = parsed(built / "out")
    entries = {entry.name: entry for entry in schema.feature}

    assert {entry.type for entry in schema.feature} == {schema_pb2.BYTES, schema_pb2.FLOAT, schema_pb2.INT}
    assert [*entries["axes_uint8"].annotation.comment] == ["uint8 [2, 3] in little-endian bytes, in C order"]
    assert [*entries["ragged_float32"].annotation.comment] == ["float32 [?, 2] in little-endian bytes, in C order"]
    assert [dim.size for dim in entries["axes_float32"].shape.dim] == [2, 3]


def test_classes_of_int64_are_a_domain(tmp_path):
    write_files(tmp_path / "src", {"a.npy": np.arange(20) % 3, "b.npy": (np.arange(20) % 3).astype(np.int16)})
    said = {"class_names": ["x", "y", "z"], "normalize": "none"}
    make(tmp_path / "src", tmp_path / "out", features={"a": said, "b": said}, rows_per_record=1)
    schema = text_format.Parse((tmp_path / "out" / "schema.pbtxt").read_text(), schema_pb2.Schema())

    assert (schema.feature[0].int_domain.min, schema.feature[0].int_domain.max) == (0, 2)
    assert not schema.feature[1].HasField("int_domain")  # its numbers are in bytes, which tools do not look into


def test_records_of_many_rows_have_no_schema(tmp_path):
    write_files(tmp_path / "src", {"x.npy": np.arange(200)})
    make(tmp_path / "src", tmp_path / "out", rows_per_record=1)
    assert (tmp_path / "out" / "schema.pbtxt").exists()
    manifest = make(tmp_path / "src", tmp_path / "out", rows_per_record=8, overwrite=True)

    assert not (tmp_path / "out" / "schema.pbtxt").exists()
    assert "schema.pbtxt" not in {file.file for file in manifest.files}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("table")
    write_files(root / "src", {"x.npy": values((3000, 3), "float32"), "y.npy": np.arange(3000).astype(np.uint8)})
    return root


def test_interchange_makes_each_row_a_record(table, tmp_path):
    said = {"features": {"x": {"impute": "none", "normalize": "none"}}, "splits": {"train": 1}}
    usual, other = (make(table / "src", tmp_path / name, **said, **more) for name, more in LAYOUTS.items())

    assert usual.rows_per_record > 1
    assert other.rows_per_record == 1
    assert (tmp_path / "interchange" / "schema.pbtxt").exists()
    assert not (tmp_path / "usual" / "schema.pbtxt").exists()
    assert "layout" not in other.config  # it resolves to what it means
    sizes = [sum(shard.bytes for shard in manifest.splits["train"]) for manifest in (usual, other)]
    for shown in (inspect(str(tmp_path / "interchange")), inspect(str(table / "src"), LAYOUTS["interchange"])):
        (line,) = [block for block in shown.blocks() if "schema.pbtxt" in str(block)]
        (times,) = re.findall(r"^1 row a record, which .* shards have (\S+) times", str(line), re.MULTILINE)
        assert float(times) == pytest.approx(sizes[1] / sizes[0], abs=0.05)


LAYOUTS = {"usual": {}, "interchange": {"layout": "interchange"}}


def test_interchange_has_one_row_a_record(table):
    with pytest.raises(ConfigError, match="layout: interchange has one row a record; found rows_per_record 4"):
        inspect(str(table / "src"), {"layout": "interchange", "rows_per_record": 4})


def test_interchange_is_said_of_rows_that_take_another_s_transform(table, tmp_path):
    make(table / "src", tmp_path / "from")
    found = build(table / "src", tmp_path / "out", {"layout": "interchange"}, transform=tmp_path / "from")

    assert found.rows_per_record == 1
    assert (tmp_path / "out" / "schema.pbtxt").exists()


@pytest.mark.parametrize("rows_per_record", [1, 8])
def test_an_append_mends_the_schema_of_an_earlier_build(tmp_path, rows_per_record):
    write_files(tmp_path / "src", {"x.npy": np.arange(50, dtype=np.uint8)})
    write_files(tmp_path / "more", {"x-1.npy": np.arange(9, dtype=np.uint8)})
    root = tmp_path / "out"
    make(tmp_path / "src", root, rows_per_record=rows_per_record, features={"x": {"normalize": "none"}})
    data = b'feature {\n  name: "x"\n  type: INT\n}\n'
    (root / "schema.pbtxt").write_bytes(data)
    described = {"file": "schema.pbtxt", "bytes": len(data), "crc32c": f"{google_crc32c.value(data):08x}"}
    files = [
        file for file in json.loads((root / "manifest.json").read_text())["files"] if file["file"] != "schema.pbtxt"
    ]
    change_manifest(root, lambda value: value.update(files=[*files, described]))
    append(tmp_path / "more", root)

    assert not verify(str(root)).problems
    assert (root / "schema.pbtxt").exists() == (rows_per_record == 1)
    assert rows_per_record > 1 or "type: BYTES" in (root / "schema.pbtxt").read_text()
