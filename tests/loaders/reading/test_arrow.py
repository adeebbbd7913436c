"""Rows as a stream of Arrow record batches: what any tool that speaks Arrow's C interface reads."""

import json

import numpy as np
import pyarrow as pa
import pytest

import loaders
from loaders.format.spec import FeatureSpec
from loaders.reading import rows as rows_module
from tests.support import ragged, shards
from tests.support.bits import DTYPES, SHAPES, any_bits, assert_same_bits
from tests.support.numbered import write_numbered


def flat(column):
    """All values of a column, as NumPy has them."""
    array = column.combine_chunks()
    while pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False)


@pytest.mark.parametrize("rows_per_record", [1, 4])
def test_every_dtype_bit_for_bit(tmp_path, rows_per_record):
    part = {f"{d}_{len(s)}": any_bits(d, (18, *s), 3) for d in DTYPES for s in SHAPES}
    part |= {name: array | np.int64(-(2**63)) for name, array in part.items() if array.dtype == np.int64}
    shards.write(tmp_path / "out", {"train": [part]}, rows_per_record=rows_per_record, features=shards.specs(part))
    table = pa.table(loaders.open(tmp_path / "out")["train"])
    for name, array in part.items():
        found = flat(table[name])
        if array.dtype.kind == "S":
            assert found.tolist() == array.reshape(-1).tolist()
        else:
            assert_same_bits(found.view(array.dtype).reshape(array.shape), array)
        assert table[name].type.equals(table.schema.field(name).type)


def test_a_part_comes_in_batches(tmp_path, monkeypatch):
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=4)
    monkeypatch.setattr(rows_module, "ARROW_BYTES", 500)
    rows = loaders.open(tmp_path / "out")["train[10:50]"]
    table = pa.table(rows)
    assert table["n"].to_pylist() == (np.arange(10, 50) - 1_000_000).tolist()
    assert len(table["n"].chunks) > 2
    again = pa.RecordBatchReader.from_stream(rows).read_all()
    assert again.equals(table)


def test_rows_of_any_length(tmp_path):
    lengths = ragged.lengths_of(53)
    ragged.write(tmp_path / "out", [lengths[:20], [], lengths[20:]])
    table = pa.table(loaders.open(tmp_path / "out")["train"])
    expected = ragged.make_rows(0, lengths)
    assert table["v"].to_pylist() == [row.tolist() for row in expected["v"]]
    assert table["w"].to_pylist() == [row.tolist() for row in expected["w"]]
    assert table["s"].to_pylist() == expected["s"].tolist()


def test_times_classes_and_roles(tmp_path):
    features = (
        FeatureSpec(name="at", dtype="int64", shape=(), unit="datetime64[ms]"),
        FeatureSpec(name="took", dtype="int64", shape=(2,), unit="timedelta64[s]"),
        FeatureSpec(name="day", dtype="int64", shape=(), unit="datetime64[D]"),
        FeatureSpec(name="kind", dtype="int64", shape=(), role="label", class_names=("oak", "pine")),
    )
    part = {
        "at": np.array([0, -5, np.iinfo(np.int64).max]),
        "took": np.arange(6).reshape(3, 2),
        "day": np.arange(3),
        "kind": np.array([0, 1, 0]),
    }
    shards.write(tmp_path / "out", {"train": [part]}, rows_per_record=2, features=features)
    table = pa.table(loaders.open(tmp_path / "out")["train"])
    assert table.schema.field("at").type == pa.timestamp("ms")
    assert table.schema.field("took").type == pa.list_(pa.duration("s"), 2)
    assert table.schema.field("day").type == pa.int64()
    assert table.schema.field("day").metadata[b"unit"] == b"datetime64[D]"
    assert json.loads(table.schema.field("kind").metadata[b"class_names"]) == ["oak", "pine"]
    assert table.schema.field("kind").metadata[b"role"] == b"label"
    assert table["at"].cast(pa.int64()).to_pylist() == part["at"].tolist()
