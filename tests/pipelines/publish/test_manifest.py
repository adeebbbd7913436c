"""What a finished data set holds beside its rows, and data sets of dropped rows, raw values and strings."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import statistics_pb2

import loaders
from loaders.format.manifest import Shard
from pipelines.config.schema import parse_config
from pipelines.errors import PublishError
from pipelines.maintain.verify import verify
from pipelines.output.directory import Output, read_manifest
from pipelines.output.tasks import FinishedTasks, Written, write_record
from pipelines.publish.manifest import gather
from tests.support.arrays import write_files
from tests.support.builds import build

ROWS = 300


def sources():
    rng = np.random.default_rng(0)
    return {
        "id.npy": np.arange(ROWS),
        "image.npy": rng.integers(0, 256, (ROWS, 4, 4, 3)).astype(np.uint8),
        "labels.npy": np.arange(ROWS) % 5,
        "time.npy": np.arange(ROWS).astype("datetime64[s]"),
        "words.npy": np.array([b"w" * (row % 7) for row in range(ROWS)]),
        "x.npy": rng.normal(3, 2, (ROWS, 3)).astype(np.float32),
        "z.npy": (rng.normal(size=ROWS) + 1j).astype(np.complex64),
    }


def config(store):
    return {
        "filter": "labels != 0",
        "shard_bytes": 5000,
        "features": {
            "id": {"role": "id"},
            "image": {"store": store},
            "x": {"store": store, "normalize": "zscore"},
            "labels": {"role": "label", "class_names": list("abcde")},
        },
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("built")
    write_files(root / "src", sources())
    for store in ("transformed", "raw"):
        build(str(root / "src"), str(root / store), parse_config(config(store)))
    return root


def rows_by_id(batches):
    return {
        int(row): {name: np.asarray(values[place]) for name, values in batch.items()}
        for batch in batches
        for place, row in enumerate(batch["id"])
    }


def same(first, second):
    """Whether two arrays have the same bits, or are the same string."""
    if first.dtype == object:
        return first.item() == second.item()
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


def all_rows(root, **options):
    found = {}
    for split in loaders.open(root).splits:
        found |= rows_by_id(loaders.load(root, split, batch_size=50, **options))
    return found


@pytest.mark.parametrize("store", ["transformed", "raw"])
def test_rows_that_the_filter_drops_are_counted(built, store):
    manifest = read_manifest(str(built / store))

    assert manifest.dropped == ROWS // 5
    assert sum(manifest.rows(split) for split in manifest.splits) == ROWS - ROWS // 5
    assert sorted(all_rows(built / store)) == [row for row in range(ROWS) if row % 5]
    assert verify(str(built / store)).problems == ()


@pytest.mark.slow
def test_raw_is_transformed_bit_for_bit(built):
    stored, applied = all_rows(built / "transformed"), all_rows(built / "raw")

    assert stored.keys() == applied.keys()
    for row, values in stored.items():
        assert values.keys() == applied[row].keys()
        for name, value in values.items():
            assert same(value, applied[row][name]), (row, name)


@pytest.mark.slow
def test_raw_is_transformed_later_bit_for_bit(built):
    expected, transform = all_rows(built / "raw"), loaders.open(built / "raw").transform
    for batch in loaders.load(built / "raw", "train", batch_size=50, transform=False):
        np.testing.assert_array_equal(batch["image"], sources()["image.npy"][batch["id"]])
        for row, values in rows_by_id([transform(batch)]).items():
            for name, value in values.items():
                assert same(value, expected[row][name]), (row, name)


def arrays(root, **options):
    """The batches of all splits, as NumPy arrays."""
    for split in loaders.open(root).splits:
        yield from loaders.numpy.Loader(root, split, batch_size=50, **options)


def test_arrays_are_transformed_bit_for_bit(built):
    stored, later = rows_by_id(arrays(built / "transformed")), loaders.open(built / "raw").transform
    source = {name.removesuffix(".npy"): array for name, array in sources().items()}
    source["words"], source["time"] = source["words"].astype(object), source["time"].astype(np.int64)
    ways = {
        "by the loader": rows_by_id(arrays(built / "raw")),
        "later": rows_by_id(map(later, arrays(built / "raw", transform=False))),
        "of the sources": rows_by_id([loaders.forward(built / "transformed")(source)]),
    }

    for way, found in ways.items():
        assert stored.keys() <= found.keys()
        for row, values in stored.items():
            for name, value in values.items():
                assert same(value, found[row][name]), (way, row, name)
    for row, values in rows_by_id(arrays(built / "raw", transform=False)).items():
        np.testing.assert_array_equal(values["image"], source["image"][row])


@pytest.mark.slow
def test_values_come_back(built):
    source, inverse = sources(), loaders.inverse(built / "transformed")
    for row, values in all_rows(built / "transformed").items():
        assert values["words"] == source["words.npy"][row]
        assert values["z"] == source["z.npy"][row]
        assert values["time"] == source["time.npy"][row].astype(np.int64)
        np.testing.assert_allclose(inverse("x", values["x"][None])[0], source["x.npy"][row], atol=1e-6)


def test_the_manifest_tells_what_is_raw(built):
    stored, raw = (read_manifest(str(built / store)) for store in ("transformed", "raw"))

    assert stored.transformed is None
    assert raw.transformed == stored.features
    assert {f.name: (f.dtype, f.shape) for f in raw.features}["image"] == ("uint8", (4, 4, 3))
    assert {"fitted.npz", "statistics.npz", "statistics.pb"} <= {file.file for file in raw.files}
    assert raw.record_bytes is None
    assert raw.chunk_records >= 1


def test_statistics_leave_out_what_has_none(built):
    found = statistics_pb2.DatasetFeatureStatisticsList.FromString((built / "raw" / "statistics.pb").read_bytes())
    (described,) = found.datasets
    rows = loaders.open(built / "raw").splits["train"]

    names = {feature.path.step[0]: feature.num_stats for feature in described.features}
    assert set(names) == {"image", "labels", "time", "words", "x"}
    assert described.num_examples == rows
    assert names["x"].common_stats.tot_num_values == 3 * rows
    assert names["image"].common_stats.min_num_values == names["image"].common_stats.max_num_values == 48


class _Plan:
    """As much of a plan as `gather` asks for."""

    splits = ("train",)

    def __init__(self, rows):
        self.table = type("Table", (), {"rows": rows})()

    def shard_count(self, split):
        return 2

    def shard_file(self, split, index):
        return f"{split}/{index}"


def written(index, rows, dropped):
    shard = Shard(file=f"train/{index}", rows=rows, bytes=1, crc32c="00000000")
    return Written(shards={"train": shard}, dropped=dropped)


def test_rows_that_are_lost_or_doubled_are_found():
    tasks = [written(1, 3, 1), written(0, 5, 2)]

    assert [shard.rows for shard in gather(_Plan(11), tasks)["train"]] == [5, 3]
    with pytest.raises(PublishError, match="expected 12 rows in the shards; found 8, and 3 were dropped"):
        gather(_Plan(12), tasks)
    with pytest.raises(PublishError, match=r"expected shard train/0 to be written \(1 are not\)"):
        gather(_Plan(4), tasks[:1])


def test_a_task_s_record_comes_back():
    task = Written(shards={"a": Shard(file="a/0", rows=2, bytes=3, crc32c="00000000", offsets=(0, 2))}, dropped=4)

    assert Written.from_json(json.loads(json.dumps(task.to_json()))) == task
    assert task.rows == 6


def test_finished_tasks_count_dropped_rows(tmp_path):
    path = pathlib.Path(Output(str(tmp_path)).path("_build", "tasks", "0-00000.json"))
    write_record(written(0, 5, 2), str(path))
    path.with_name("0-00001.json").write_bytes(path.read_bytes()[:-1])  # a power cut has left half of it

    assert FinishedTasks(Output(str(tmp_path))).rows() == 7


def test_batches_are_typed(built):
    spec = loaders.load(built / "raw", "train", batch_size=5).element_spec
    assert spec["words"] == tf.TensorSpec([None], tf.string)
    assert spec["z"] == tf.TensorSpec([None], tf.complex64)
    assert spec["image"] == tf.TensorSpec([None, 4, 4, 3], tf.float32)
