"""Each format of `npyflow export` as its own reader reads it: the same rows in the same order, bit for bit."""

import hashlib
import io
import itertools
import json
import uuid

import mlcroissant
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import webdataset
import zarr
from array_record.python.array_record_module import ArrayRecordReader
from fsspec.implementations.memory import MemoryFileSystem

import loaders
import pipelines
from loaders.format.spec import FeatureSpec
from pipelines.exports import mds as mds_target
from pipelines.exports import zarr as zarr_target
from pipelines.storage import directories
from tests.support import ragged, shards
from tests.support.bits import DTYPES, any_bits, assert_same_bits
from tests.support.numbered import write_numbered

ROWS = (20, 0, 30, 3)
SHAPES = ((), (2, 3))


def write(root, *, rows_per_record, more=None):
    """Numbers of every dtype and what `more` makes of a number of rows, as two splits and one that is empty."""

    def part(count, seed):
        found = {f"{d}_{len(s)}": any_bits(d, (count, *s), 7 * seed + i) for i, d in enumerate(DTYPES) for s in SHAPES}
        # Negative, because varints of negative numbers have one length.
        found |= {name: array | np.int64(-(2**63)) for name, array in found.items() if array.dtype == np.int64}
        return found | (more(count) if more else {})

    splits = {"train": [part(count, seed) for seed, count in enumerate(ROWS)], "test": [part(5, 9)], "none": []}
    texts = tuple(FeatureSpec(name=name, dtype="string", shape=()) for name in (more(0) if more else {}))
    specs = texts + shards.specs(
        {name: values for name, values in splits["test"][0].items() if values.dtype.kind != "S"}
    )
    shards.write(
        root, splits, rows_per_record=rows_per_record, features=specs, **({"chunk_records": 2} if more else {})
    )
    return root


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return write(tmp_path_factory.mktemp("numbers") / "set", rows_per_record=4)


@pytest.fixture(scope="module")
def with_text(tmp_path_factory):
    def text(count):
        return {"text": np.array([f"row {n}".encode() for n in range(count)], "S")}

    return write(tmp_path_factory.mktemp("text") / "set", rows_per_record=4, more=text)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Rows of any length, and text."""
    root, lengths = tmp_path_factory.mktemp("uneven") / "set", ragged.lengths_of(53)
    ragged.write(root, [lengths[:20], [], lengths[20:]])
    return root


def export(data_set, output, to, **options):
    return pipelines.export(data_set, output, to=to, **{"workers": 1} | options)


def names_in(output):
    return [file.path for file in directories.list_files(str(output))]


def stored(root, split="train"):
    """The rows as the loaders give them."""
    return loaders.open(root)[split]


def assert_same_table(found, expected):
    """The same fields, lengths and bits."""
    found = found.cast(expected.schema)  # Parquet has its own name for the elements of lists
    for field in expected.schema:
        columns = [table[field.name].combine_chunks() for table in (found, expected)]
        while pa.types.is_fixed_size_list(columns[0].type) or pa.types.is_large_list(columns[0].type):
            if pa.types.is_large_list(columns[0].type):
                assert columns[0].value_lengths().equals(columns[1].value_lengths())
            columns = [column.flatten() for column in columns]
        one, other = (column.to_numpy(zero_copy_only=False) for column in columns)
        assert one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


@pytest.mark.parametrize("kind", ["numbers", "with_text", "uneven"])
def test_parquet(kind, request, tmp_path):
    root = request.getfixturevalue(kind)

    done = export(root, tmp_path / "out", "parquet")

    files = sorted((tmp_path / "out" / "train").iterdir())
    assert [file.name for file in files] == [f"train-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))]
    assert (done.rows["train"], done.pieces["train"]) == (53, len(files)) == (53, 2 if kind == "uneven" else 3)
    assert_same_table(pq.ParquetDataset(tmp_path / "out" / "train").read(), pa.table(stored(root)))
    assert {path.split("/")[0] for path in names_in(tmp_path / "out")} == {*done.rows} - {"none"} | {"croissant.json"}


def test_parquet_is_read_by_croissant(small, tmp_path):
    export(small, tmp_path / "out", "parquet")

    found = mlcroissant.Dataset(str(tmp_path / "out" / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    rows = [{name.rpartition("/")[2]: value for name, value in row.items()} for row in found.records("rows/train")]
    for row, expected in zip(rows, stored(small), strict=True):
        assert row["n"] == expected["n"]
        assert_same_bits(np.array(row["x"], np.float32), expected["x"])
    digests = {file.id: file.sha256 for file in found.metadata.distribution if hasattr(file, "sha256")}
    assert digests == {
        path.relative_to(tmp_path / "out").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "out").glob("*/*.parquet")
    }


def test_array_record_holds_what_a_data_set_of_one_row_a_record_holds(numbers, tmp_path):
    single = write(tmp_path / "single", rows_per_record=1)

    export(numbers, tmp_path / "out", "arrayrecord")

    found = [
        record
        for file in sorted((tmp_path / "out" / "train").iterdir())
        for record in ArrayRecordReader(str(file)).read_all()
    ]
    written = tf.data.TFRecordDataset(sorted(map(str, (single / "train").iterdir())))
    assert found == list(written.as_numpy_iterator())


def test_tensorflow_datasets_reads_array_records_at_random(small, tmp_path):
    export(small, tmp_path / "out", "arrayrecord")

    source = tfds.builder_from_directory(str(tmp_path / "out")).as_data_source(split="train")
    assert len(source) == 53
    for number in (52, 0, 30):
        assert source[number]["n"] == stored(small)[number]["n"]
        assert_same_bits(source[number]["x"], stored(small)[number]["x"])


def test_array_record_of_rows_of_any_length(uneven, tmp_path):
    export(uneven, tmp_path / "out", "arrayrecord")

    readers = [ArrayRecordReader(str(file)) for file in sorted((tmp_path / "out" / "train").iterdir())]
    examples = [tf.train.Example.FromString(record) for reader in readers for record in reader.read_all()]
    for example, row in zip(examples, stored(uneven), strict=True):
        found = example.features.feature
        assert found["n"].int64_list.value[0] == row["n"]
        assert list(found["s"].bytes_list.value) == row["s"].tolist()
        assert found["v"].bytes_list.value[0] == row["v"].tobytes()


@pytest.mark.parametrize("kind", ["with_text", "uneven"])
def test_webdataset(kind, request, tmp_path):
    root = request.getfixturevalue(kind)

    export(root, tmp_path / "out", "webdataset")

    files = sorted(map(str, (tmp_path / "out" / "train").iterdir()))
    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode())
    assert [int(sample["__key__"]) for sample in samples] == list(range(53))
    for sample, row in zip(samples, stored(root), strict=True):
        for name, value in row.items():
            found = sample[f"{name}.npy"]
            if loaders.open(root).features[name].dtype == "string":
                assert found.tolist() == np.asarray(value).tolist()
            else:
                assert_same_bits(found, np.asarray(value))


def mds_rows(data, shard):
    """What MosaicML's reader makes of a file (`scripts/interop.sh` asks itself: its package needs an older NumPy)."""
    count = int(np.frombuffer(data, "<u4", 1)[0])
    places = np.frombuffer(data, "<u4", count + 1, 4)
    columns = list(zip(*(shard[f"column_{what}"] for what in ("names", "encodings", "sizes")), strict=True))
    said = json.loads(data[4 * (count + 2) : places[0]])
    assert said == {key: value for key, value in shard.items() if key not in ("raw_data", "zip_data", "samples")}
    for start, stop in itertools.pairwise(places):
        row = data[start:stop]
        varying = [name for name, _, size in columns if size is None]
        lengths = dict(zip(varying, np.frombuffer(row, "<u4", len(varying)), strict=True))
        found, at = {}, 4 * len(varying)
        for name, encoding, size in columns:
            end = at + int(lengths.get(name, size))
            found[name], at = mds_value(encoding, row[at:end]), end
        yield found
        assert at == len(row)


def mds_value(encoding, value):
    if encoding == "bytes":
        return value
    if not encoding.startswith("ndarray"):
        return np.frombuffer(value, encoding)[0]
    _, dtype, *shape = encoding.split(":")
    if shape:
        return np.frombuffer(value, dtype).reshape([int(size) for size in shape[0].split(",")])
    axes, width = value[0] >> 2, 2 ** (value[0] % 4)
    begin = 1 + axes * width
    return np.frombuffer(value[begin:], dtype).reshape(np.frombuffer(value[1:begin], f"<u{width}"))


@pytest.mark.parametrize("kind", ["with_text", "uneven"])
def test_mds(kind, with_text, tmp_path):
    root = with_text
    if kind == "uneven":
        root, lengths = tmp_path / "set", ragged.lengths_of(53)
        numbers = [spec for spec in ragged.FEATURES if spec.dtype != "string"]
        ragged.write(root, [lengths[:20], [], lengths[20:]], features=numbers)

    export(root, tmp_path / "out", "mds")

    index = json.loads((tmp_path / "out/train/index.json").read_bytes())
    assert index["version"] == 2
    found = []
    for shard in index["shards"]:
        data = (tmp_path / "out/train" / shard["raw_data"]["basename"]).read_bytes()
        assert shard["raw_data"]["bytes"] == len(data)
        assert shard["raw_data"]["hashes"] == {"sha256": hashlib.sha256(data).hexdigest()}
        found += mds_rows(data, shard)
        assert sum(other["samples"] for other in index["shards"][: index["shards"].index(shard) + 1]) == len(found)
    for row, expected in zip(found, stored(root), strict=True):
        for name, value in expected.items():
            value = np.asarray(value)
            if value.dtype.kind == "c":
                value = np.stack([value.real, value.imag], -1)
            if loaders.open(root).features[name].dtype == "string":
                assert row[name] == value.item()
            else:
                assert_same_bits(np.asarray(row[name]), value.view(np.uint8) if value.dtype == bool else value)


def test_mds_files_of_four_gibibytes_are_refused(small, tmp_path, monkeypatch):
    monkeypatch.setattr(mds_target, "LIMIT_BYTES", 500)
    with pytest.raises(pipelines.DataError, match=r"train-00000-of-00003.mds: expected files of less than 500 bytes"):
        export(small, tmp_path / "out", "mds")


def test_npy_is_what_a_build_reads(with_text, tmp_path):
    export(with_text, tmp_path / "out", "npy")

    for name, values in stored(with_text)[:].items():
        found = np.concatenate([np.load(file) for file in sorted((tmp_path / "out/train").glob(f"{name}-?????.npy"))])
        if name == "text":
            assert found.tolist() == values.tolist()
        else:
            assert_same_bits(found, values)
    plan = pipelines.inspect(tmp_path / "out").plan
    rows = {split: sum(part.rows for part in plan.table.parts if part.split == split) for split in ("train", "test")}
    assert rows == {"train": 53, "test": 5}


def test_zarr(numbers, tmp_path):
    export(numbers, tmp_path / "out", "zarr")

    group = zarr.open_group(tmp_path / "out" / "train.zarr", mode="r")
    for name, values in stored(numbers)[:].items():
        assert_same_bits(group[name][:], values)
        assert group[name].attrs["role"] == "input"


@pytest.fixture
def small(tmp_path):
    write_numbered(tmp_path / "set", ROWS, rows_per_record=4)
    return tmp_path / "set"


def test_zarr_of_many_chunks(small, tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_target, "CHUNK_BYTES", 16)
    done = export(small, tmp_path / "out", "zarr")

    group = zarr.open_group(tmp_path / "out" / "train.zarr", mode="r")
    assert (done.pieces["train"], group["n"].chunks, group["x"].chunks) == (2, (2,), (2, 2))
    for name, values in stored(small)[:].items():
        assert_same_bits(group[name][:], values)


def test_times_come_as_times(tmp_path):
    specs = (FeatureSpec(name="at", dtype="int64", shape=(), unit="datetime64[ms]"),)
    times = np.array(["2020-01-01", "NaT", "1969-12-31"], "datetime64[ms]")
    shards.write(tmp_path / "set", {"train": [{"at": times.view(np.int64)}]}, rows_per_record=2, features=specs)

    export(tmp_path / "set", tmp_path / "npy", "npy")
    export(tmp_path / "set", tmp_path / "zarr", "zarr")

    assert_same_bits(np.load(tmp_path / "npy/train/at-00000.npy"), times)
    assert_same_bits(zarr.open_group(tmp_path / "zarr/train.zarr", mode="r")["at"][:], times)


def test_an_export_into_another_file_system(small, tmp_path):
    memory, place = MemoryFileSystem(), uuid.uuid4().hex
    for to in ("parquet", "zarr"):
        export(small, tmp_path / to, to)
        export(small, f"memory://{place}/{to}", to)

        assert [path.removeprefix(f"/{place}/{to}/") for path in memory.find(f"/{place}/{to}")] == names_in(
            tmp_path / to
        )
    data = memory.cat_file(f"/{place}/parquet/train/train-00000-of-00003.parquet")
    assert_same_table(pq.read_table(io.BytesIO(data)), pa.table(stored(small, "train[:20]")))
