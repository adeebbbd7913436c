"""Rows by their number."""

import pickle

import numpy as np
import pytest

import loaders
from loaders.format.manifest import ManifestError
from loaders.storage.store import ShardError
from tests.support import ragged, shards
from tests.support.bits import DTYPES, SHAPES, any_bits, assert_same_bits
from tests.support.numbered import write_numbered


@pytest.fixture
def root(tmp_path):
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=4)
    return tmp_path / "out"


@pytest.mark.parametrize("rows_per_record", [1, 4])
def test_every_dtype_bit_for_bit(tmp_path, rows_per_record):
    def values(dtype, shape, count, seed):
        found = any_bits(dtype, (count, *shape), seed)
        return found | np.int64(-(2**63)) if dtype == "int64" else found

    parts = [
        {f"{d}_{len(s)}": values(d, s, count, 7 * seed + i) for i, d in enumerate(DTYPES) for s in SHAPES}
        for seed, count in enumerate([9, 0, 8, 1])
    ]
    shards.write(tmp_path / "out", {"train": parts}, rows_per_record=rows_per_record, features=shards.specs(parts[0]))
    expected = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    index = np.array([17, 0, 8, 9, -1, 3, 3])

    rows = loaders.open(tmp_path / "out")["train"]

    assert len(rows) == 18
    for name, array in expected.items():
        assert_same_bits(rows[index][name], array[index])
        assert_same_bits(rows[2:17:3][name], array[2:17:3])
        assert_same_bits(rows[-5][name], array[-5])


def test_indexes_are_those_of_numpy(root):
    rows = loaders.open(root)["train"]
    stored = np.arange(53) - 1_000_000
    for index in (slice(None), slice(5, 2), slice(None, None, -7), [4, 52, 4], np.array([0], np.uint8), [], [-53]):
        array = np.array(index, np.int64) if isinstance(index, list) else index
        assert rows[index]["n"].tolist() == stored[array].tolist()
        assert rows[index]["x"].shape == (len(stored[array]), 2)
    assert rows[np.int32(7)]["n"] == stored[7]
    assert [row["n"] for row in rows] == stored.tolist()
    assert [row["n"] for row in rows.__getitems__([3, 50, 3])] == stored[[3, 50, 3]].tolist()
    for index in (53, -54, [0, 53]):
        with pytest.raises(IndexError, match=r"train has 53 rows; found index (53|-54)"):
            rows[index]
    for index in (1.0, "a", np.array([1.0]), np.array([True]), np.array([[1]]), None):
        with pytest.raises(TypeError):
            rows[index]
    with pytest.raises(ManifestError, match="there is no split 'valid'; the splits are train"):
        loaders.open(root)["valid"]


def test_it_is_the_stored_order(root):
    rows = loaders.open(root)["train"]
    (batch,) = loaders.load(root, "train", batch_size=53, shuffle=False).as_numpy_iterator()

    np.testing.assert_array_equal(rows[:]["x"], batch["x"])


@pytest.mark.parametrize("rows_per_record", [1, 3])
def test_strings_and_ragged_rows(tmp_path, rows_per_record):
    lengths = ragged.lengths_of(33)
    ragged.write(tmp_path / "out", [lengths[:20], [], lengths[20:]], rows_per_record=rows_per_record)
    rows = loaders.open(tmp_path / "out")["train"]

    assert ragged.check_batch(rows[[32, 0, 19, 20, 5]], lengths) == [32, 0, 19, 20, 5]
    for number in (7, 20, 8):
        expected = ragged.make_rows(number, [lengths[number]])
        found = rows[number]
        assert set(found) == {"n", "s", "v", "w"}
        assert found["s"].tolist() == expected["s"][0].tolist()
        np.testing.assert_array_equal(found["v"], expected["v"][0])
        np.testing.assert_array_equal(found["w"], expected["w"][0])
        found["v"][...] = 0  # a row is the caller's own
        np.testing.assert_array_equal(rows[number]["v"], expected["v"][0])


def test_a_pickle_reads_the_same(root):
    rows = loaders.open(root)["train"]
    before = rows[30]

    assert pickle.loads(pickle.dumps(rows))[30]["n"] == before["n"]


def test_only_what_is_asked_for_is_checked(root):
    manifest = loaders.open(root).manifest
    path = root / "train" / "train-00000.tfrecord"
    content = bytearray(path.read_bytes())
    content[3 * manifest.record_bytes + 40] ^= 1
    path.write_bytes(content)
    rows = loaders.open(root)["train"]

    assert rows[11]["n"] == 11 - 1_000_000
    for _ in range(2):
        with pytest.raises(ShardError, match=r"train-00000\.tfrecord: record 3: expected checksum"):
            rows[12]


def test_a_split_without_rows(tmp_path):
    write_numbered(tmp_path / "out", [0], rows_per_record=4)
    rows = loaders.open(tmp_path / "out")["train"]

    assert len(rows) == 0
    assert rows[:]["x"].shape == (0, 2)


@pytest.mark.slow
def test_a_map_style_data_set_of_pytorch(root):
    data = pytest.importorskip("torch.utils.data")
    rows = loaders.open(root)["train"]

    batches = list(data.DataLoader(rows, batch_size=10, num_workers=2))

    assert [n for batch in batches for n in batch["n"].tolist()] == [n - 1_000_000 for n in range(53)]
    assert batches[0]["x"].shape == (10, 2)


@pytest.mark.slow
def test_a_source_of_grain(root):
    grain = pytest.importorskip("grain")
    dataset = grain.MapDataset.source(loaders.open(root)["train"]).shuffle(seed=1).batch(10, drop_remainder=False)

    found = np.concatenate([batch["n"] for batch in dataset])

    assert sorted(found + 1_000_000) == list(range(53))
    assert sorted(found) != found.tolist()
