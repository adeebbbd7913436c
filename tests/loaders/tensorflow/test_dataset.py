import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loaders
from loaders.format.manifest import ManifestError
from loaders.order import chunks
from loaders.order.epoch import Runs
from loaders.storage.shards import Shards
from loaders.storage.store import ShardError
from pipelines.maintain.verify import verify
from pipelines.storage.npz_bytes import dump_arrays
from tests.support import examples, shards
from tests.support.bits import DTYPES, SHAPES, any_bits, assert_same_bits
from tests.support.manifests import write_beside
from tests.support.numbered import numbers, oracle, small_chunks, write_numbered


@pytest.mark.parametrize("rows_per_record", [1, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_dtype_comes_back_bit_for_bit(tmp_path, rows_per_record, shuffle):
    # An int64_list has records of one size only where its numbers have one length.
    def values(dtype, shape, count, seed):
        found = any_bits(dtype, (count, *shape), seed)
        return found | np.int64(-(2**63)) if dtype == "int64" else found

    def part(count, seed):
        rows = {f"{d}_{len(s)}": values(d, s, count, seed + i) for i, d in enumerate(DTYPES) for s in SHAPES}
        return rows | {"row": np.arange(count, dtype=np.int32) + 100 * seed}

    parts = [part(9, 0), part(0, 1), part(8, 2), part(1, 3)]
    shards.write(tmp_path / "out", {"s": parts}, rows_per_record=rows_per_record, features=shards.specs(parts[0]))
    expected = {name: np.concatenate([rows[name] for rows in parts]) for name in parts[0]}

    loaded = loaders.load(tmp_path / "out", "s", batch_size=5, shuffle=shuffle)
    batches = list(loaded.as_numpy_iterator())
    found = {name: np.concatenate([batch[name] for batch in batches]) for name in expected}

    places = np.argsort(found["row"])
    assert (places.tolist() != list(range(18))) == shuffle
    for name, array in expected.items():
        assert_same_bits(found[name][places], array)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    rows_per_record=st.integers(1, 5),
    chunk_bytes=st.integers(1, 600),
    window_bytes=st.integers(1, 800),
    batch_size=st.integers(1, 17),
    seed=st.integers(-(2**63), 2**64 - 1),
)
def test_epochs_equal_the_oracle(
    tmp_path_factory, counts, rows_per_record, chunk_bytes, window_bytes, batch_size, seed
):
    root = tmp_path_factory.mktemp("data")
    manifest = write_numbered(root / "out", counts, rows_per_record=rows_per_record)
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, chunk_bytes=chunk_bytes, window_bytes=window_bytes)
        loaded = loaders.load(root / "out", "train", batch_size=batch_size, seed=seed, epochs=2)
        batches = list(loaded.as_numpy_iterator())
        expected = [oracle(manifest, "train", seed, epoch) for epoch in range(2)]

    assert numbers(batches) == expected[0] + expected[1]
    assert sorted(expected[0]) == list(range(sum(counts)))
    assert all(np.array_equal(batch["x"][:, 1], 2 * batch["x"][:, 0]) for batch in batches)
    assert [len(batch["n"]) for batch in batches[: len(batches) // 2]] == [
        min(batch_size, sum(counts) - start) for start in range(0, sum(counts), batch_size)
    ]


def test_many_chunks_keep_their_order(tmp_path, monkeypatch):
    # Many windows of chunks of several records.
    small_chunks(monkeypatch, chunk_bytes=200, window_bytes=3000)
    manifest = write_numbered(tmp_path / "out", [2000, 3, 1500], rows_per_record=2)
    assert chunks.Chunks.of(manifest, "train").size > 500
    assert chunks.Chunks.of(manifest, "train").records > 1

    shuffled = loaders.load(tmp_path / "out", "train", batch_size=100, seed=3)
    stored = loaders.load(tmp_path / "out", "train", batch_size=100, shuffle=False)

    assert numbers(shuffled) == oracle(manifest, "train", 3, 0)
    assert numbers(stored) == list(range(3503))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """53 rows in three shards."""
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    write_numbered(tmp_path / "out", [20, 30, 3], rows_per_record=4)
    return tmp_path / "out"


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_shard_that_lost_its_last_record_is_an_error(root, shuffle):
    shard = sorted((root / "train").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[: 7 * loaders.open(root).manifest.record_bytes])
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{shard}: expected a shard of \d+ bytes; found \d+"):
        numbers(loaders.load(root, "train", batch_size=100, shuffle=shuffle))


@pytest.mark.slow
def test_numbers_of_numpy_are_numbers(root):
    for number in (np.int32(3), np.int64(3), np.uint64(3)):
        assert numbers(loaders.load(root, "train", batch_size=number, seed=number)) == numbers(
            loaders.load(root, "train", batch_size=3, seed=3)
        )
    for option in ({"seed": 1.5}, {"seed": "a"}, {"batch_size": 2.0}):
        with pytest.raises(TypeError, match="integer"):
            loaders.load(root, "train", **({"batch_size": 3} | option))


def test_order_is_of_seed_and_epoch(root):
    def epochs(**options):
        found = numbers(loaders.load(root, "train", batch_size=10, **options))
        return [tuple(found[start : start + 53]) for start in range(0, len(found), 53)]

    assert epochs(seed=1, epochs=3) == epochs(seed=1, epochs=3)
    assert len({*epochs(seed=1, epochs=3), *epochs(seed=2, epochs=3), tuple(range(53))}) == 7
    assert epochs(shuffle=False, epochs=2) == [tuple(range(53))] * 2


def test_each_iterator_goes_on_with_the_next_epochs(root):
    expected = numbers(loaders.load(root, "train", batch_size=10, epochs=6))

    loaded = loaders.load(root, "train", batch_size=10, epochs=2)

    assert numbers(loaded) + numbers(loaded) + numbers(loaded) == expected
    # An iterator that was left counts as a whole one.
    again = loaders.load(root, "train", batch_size=10, epochs=2)
    next(iter(again))
    assert numbers(again) == expected[2 * 53 : 4 * 53]


def test_no_last_epoch(root):
    expected = numbers(loaders.load(root, "train", batch_size=10, epochs=4))

    loaded = loaders.load(root, "train", batch_size=10, epochs=None)

    assert loaded.cardinality() == tf.data.INFINITE_CARDINALITY
    assert numbers(loaded.take(18)) == expected[: 3 * 53]
    assert numbers(loaded.take(18)) == expected[53:]
    stored = loaders.load(root, "train", batch_size=10, epochs=None, shuffle=False)
    assert stored.cardinality() == tf.data.INFINITE_CARDINALITY
    assert numbers(stored.take(12)) == [*range(53)] * 2


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("batch_size", [10, 53, 60])
def test_shapes_and_cardinality_are_known(root, shuffle, drop_remainder, batch_size):
    options = {"shuffle": shuffle, "drop_remainder": drop_remainder, "epochs": 2}
    loaded = loaders.load(root, "train", batch_size=batch_size, **options)

    batches = list(loaded)

    size = batch_size if drop_remainder else None
    assert loaded.element_spec == {"n": tf.TensorSpec([size], tf.int64), "x": tf.TensorSpec([size, 2], tf.float32)}
    assert int(loaded.cardinality()) == len(batches)
    assert len(numbers(batches)) == 2 * (53 // batch_size * batch_size if drop_remainder else 53)


@pytest.mark.parametrize("counts", [[0], [0, 0]])
@pytest.mark.parametrize("epochs", [1, None])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_split_without_rows(tmp_path, counts, epochs, shuffle):
    write_numbered(tmp_path / "out", counts, rows_per_record=2)

    loaded = loaders.load(tmp_path / "out", "train", batch_size=4, epochs=epochs, shuffle=shuffle)

    assert list(loaded) == []
    assert loaded.cardinality() == 0
    assert loaded.element_spec["x"] == tf.TensorSpec([None, 2], tf.float32)


def test_a_split_without_shards(tmp_path):
    features = shards.specs({"x": np.zeros((0, 2), "f4")})
    shards.write(tmp_path / "out", {"empty": []}, rows_per_record=2, features=features)

    assert list(loaders.load(tmp_path / "out", "empty", batch_size=4)) == []


def test_supervised_and_map_fn(root):
    def double(inputs, label):
        return {"twice": 2 * inputs}, label

    plain = loaders.load(root, "train", batch_size=10)
    loaded = loaders.load(root, "train", batch_size=10, as_supervised=True)
    mapped = loaders.load(root, "train", batch_size=10, as_supervised=True, map_fn=double)

    assert loaded.element_spec == (tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([None], tf.int64))
    for batch, (x, n), (inputs, label) in zip(plain, loaded, mapped, strict=True):
        np.testing.assert_array_equal(x, batch["x"])
        np.testing.assert_array_equal(n, batch["n"])
        np.testing.assert_array_equal(inputs["twice"], 2 * x)
        np.testing.assert_array_equal(label, n)
    assert int(mapped.cardinality()) == 6


@pytest.mark.parametrize("device", ["auto", "/cpu:0", None])
def test_a_device_changes_no_batch(root, device):
    loaded = loaders.load(root, "train", batch_size=10, device=device)

    assert numbers(loaded) == numbers(loaders.load(root, "train", batch_size=10))
    assert loaded.element_spec["x"] == tf.TensorSpec([None, 2], tf.float32)


def steps(loaded):
    """The names of the kinds of the last steps of a pipeline."""
    names = []
    while len(names) < 3:
        names.append(type(loaded).__name__)
        loaded = loaded._inputs()[0]
    return names


def test_prefetch_and_device_are_steps(root):
    assert "_PrefetchDataset" in steps(loaders.load(root, "train", batch_size=10))
    assert "_PrefetchDataset" not in steps(loaders.load(root, "train", batch_size=10, prefetch=0))
    assert "_CopyToDeviceDataset" in steps(loaders.load(root, "train", batch_size=10, device="/cpu:0"))
    on_gpu = "_CopyToDeviceDataset" in steps(loaders.load(root, "train", batch_size=10, device="auto"))
    assert on_gpu == bool(tf.config.list_physical_devices("GPU"))


def test_batches_are_deterministic(root):
    assert loaders.load(root, "train", batch_size=10).options().deterministic


@pytest.mark.slow
def test_an_iterator_ends_with_its_last_batch(root):
    """With autotuning on it waits for the next time that the tuner looks: after 10, 30, 70, … 630, 1,270 ms."""
    dataset = loaders.load(root, "train", batch_size=10).repeat()
    for _ in range(3):
        iterator = iter(dataset)
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            next(iterator)
        before = time.monotonic()
        del iterator
        assert time.monotonic() - before < 0.3


def test_autotuning_can_be_turned_on(root):
    dataset = loaders.load(root, "train", batch_size=10)
    assert not dataset.options().autotune.enabled
    wanted = tf.data.Options()
    wanted.autotune.enabled = True
    assert dataset.with_options(wanted).options().autotune.enabled


@pytest.mark.slow
def test_keras_fit_sees_every_row_in_another_order_each_epoch(root):

    class Seen(keras.layers.Layer):
        def call(self, inputs):
            tf.py_function(lambda x: seen.extend(x.numpy()[:, 0].astype(int) + 1_000_000), [inputs], [])
            return inputs

    seen: list[int] = []
    model = keras.Sequential([keras.Input((2,)), Seen(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)

    model.fit(loaders.load(root, "train", batch_size=10, as_supervised=True), epochs=3, verbose=0)

    expected = numbers(loaders.load(root, "train", batch_size=10, epochs=8))
    epochs = [tuple(expected[start : start + 53]) for start in range(0, len(expected), 53)]
    fitted = [tuple(seen[start : start + 53]) for start in range(0, len(seen), 53)]
    assert len(fitted) == 3
    assert fitted == epochs[:3]


def test_a_chunk_is_read_alone(tmp_path, monkeypatch):
    # Of five chunks the second is damaged; the others do not meet it.
    manifest = write_numbered(tmp_path / "out", [40], rows_per_record=4)
    small_chunks(monkeypatch, chunk_bytes=2 * manifest.record_bytes, window_bytes=1)
    path = tmp_path / "out" / manifest.splits["train"][0].file
    content = bytearray(path.read_bytes())
    content[3 * manifest.record_bytes] ^= 1
    path.write_bytes(content)
    rows = Shards(str(tmp_path / "out"), manifest, "train", names=["n"])

    def chunk(number):
        found = rows.empty(8)
        start = np.array([8 * number])
        rows.read_runs(Runs(shard=np.zeros(1, np.int64), start=start, stop=start + 8), found, np.zeros(1, np.int64))
        return numbers([found])

    assert [chunk(number) for number in (0, 2, 4)] == [[*range(8)], [*range(16, 24)], [*range(32, 40)]]
    with pytest.raises(ShardError, match="record 3: expected a record of 4 rows"):
        chunk(1)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_shard_that_lost_its_end_is_an_error(tmp_path, shuffle):
    manifest = write_numbered(tmp_path / "out", [8, 40], rows_per_record=4)
    path = tmp_path / "out" / manifest.splits["train"][1].file
    path.write_bytes(path.read_bytes()[: 3 * manifest.record_bytes])

    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{path}: expected a shard of"):
        list(loaders.load(tmp_path / "out", "train", batch_size=10, shuffle=shuffle))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("lost", range(12))
def test_one_of_many_small_shards_that_lost_its_end_is_an_error(tmp_path, monkeypatch, shuffle, lost):
    # The last file of those that are read together has more records than the window needs.
    manifest = write_numbered(tmp_path / "out", [6] * 12, rows_per_record=2)
    small_chunks(monkeypatch, chunk_bytes=12 * manifest.record_bytes, window_bytes=16 * 10)
    path = tmp_path / "out" / manifest.splits["train"][lost].file
    path.write_bytes(path.read_bytes()[: 2 * manifest.record_bytes])

    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{path}: expected a shard of"):
        list(loaders.load(tmp_path / "out", "train", batch_size=10, shuffle=shuffle))


def test_a_missing_shard_is_named(root):
    (root / "train" / "train-00001.tfrecord").unlink()

    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"train-00001\.tfrecord: expected a shard of .* No such file"
    ):
        list(loaders.load(root, "train", batch_size=10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is at least 1; found 0"),
        ({"epochs": 0}, "epochs is at least 1, or None for ever; found 0"),
        ({"prefetch": -2}, "prefetch is a number of batches.*found -2"),
    ],
)
def test_bad_options_are_named(root, options, message):
    with pytest.raises(ValueError, match=message):
        loaders.load(root, "train", **({"batch_size": 10} | options))


def test_what_is_not_a_data_set_is_named(root, tmp_path):
    with pytest.raises(ManifestError, match=r"empty: not a finished data set"):
        loaders.open(tmp_path / "empty")
    with pytest.raises(ManifestError, match=r"out: there is no split 'valid'; the splits are train"):
        loaders.load(root, "valid", batch_size=1)


def test_open_tells_the_facts(tmp_path):
    rows = {"x": np.zeros((3, 2), "f4"), "y": np.zeros(3, "u1")}
    features = shards.specs(rows, {"y": "label"}, y={"class_names": ("corn", "oats")})
    written = shards.write(tmp_path / "out", {"train": [rows], "test": []}, rows_per_record=2, features=features)

    found = loaders.open(tmp_path / "out")

    assert found.manifest == written
    assert found.features == {"x": features[0], "y": features[1]}
    assert found.splits == {"train": 3, "test": 0}
    assert found.class_names == {"y": ("corn", "oats")}
    assert "train: 3 rows" in repr(found)
    assert "y: uint8 [], label" in repr(found)
    assert len(list(found.load("train", batch_size=2))) == 2


def test_statistics_are_read_when_asked_for(tmp_path):
    write_numbered(tmp_path / "out", [3], rows_per_record=2)
    found = loaders.open(tmp_path / "out")
    with pytest.raises(ManifestError, match="expected the statistics of the data set; found none"):
        _ = found.statistics
    arrays = {"x/mean": np.array([1.0, 2.0]), "a/b/count": np.array(7)}
    write_beside(tmp_path / "out", "statistics.npz", dump_arrays(arrays))
    found = loaders.open(tmp_path / "out")
    assert found.statistics["x"]["mean"].tolist() == [1.0, 2.0]
    assert found.statistics["a/b"]["count"] == 7


# A data set as format version 1 wrote it: three rows, two a record.
VERSION_1 = """{
 "format": "npyflow",
 "format_version": 1,
 "features": [
  {"name": "n", "dtype": "int64", "shape": [], "role": "label", "class_names": []},
  {"name": "x", "dtype": "float32", "shape": [2], "role": "input", "class_names": []}
 ],
 "rows_per_record": 2,
 "record_bytes": 72,
 "splits": {"train": {"rows": 3, "shards": [
  {"file": "train/train-00000-of-00001.tfrecord", "rows": 3, "bytes": 128, "crc32c": "c7034be9"}
 ]}},
 "files": [],
 "seed": 0,
 "source_fingerprint": "",
 "transform": null,
 "config": {},
 "versions": {}
}
"""
VERSION_1_SHARD = (
    "3800000000000000a3797d570a360a190a016e12140a120a100100000000000000ffffffffffffffff0a190a017812141212"
    "0a100000c03f000000c0000000000000807f29313c94"
)
VERSION_1_REST = (
    "2800000000000000ff70164a0a260a110a016e120c0a0a0a0807000000000000000a110a0178120c120a0a080000404000008040138d1587"
)


def test_a_data_set_of_format_version_1(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "manifest.json").write_text(VERSION_1)
    (tmp_path / "train" / "train-00000-of-00001.tfrecord").write_bytes(bytes.fromhex(VERSION_1_SHARD + VERSION_1_REST))

    (batch,) = loaders.load(tmp_path, "train", batch_size=4, shuffle=False)

    assert batch["n"].numpy().tolist() == [1, -1, 7]
    assert batch["x"].numpy().tolist() == [[1.5, -2.0], [0.0, np.inf], [3.0, 4.0]]
    assert verify(str(tmp_path)).problems == ()
    assert loaders.open(tmp_path).manifest.chunk_records is None
