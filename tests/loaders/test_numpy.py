"""The reader without TensorFlow against the one with it; its states; its errors."""

import contextlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loaders
from loaders.format.manifest import ManifestError
from loaders.format.spec import FeatureSpec
from loaders.numpy import Loader
from loaders.order import chunks
from loaders.storage import shards as mapped
from loaders.storage import store
from loaders.storage.store import ShardError
from tests.support import examples, ragged, shards
from tests.support.batches import assert_same, damage
from tests.support.bits import DTYPES, SHAPES, any_bits
from tests.support.numbered import numbers, small_chunks, write_numbered

ROOT = pathlib.Path(__file__).parents[2]


def assert_as_loaded(root, **options):
    expected = loaders.load(root, "train", **options)
    loader = Loader(root, "train", **options)
    assert len(loader) == int(expected.cardinality())
    assert_same(loader, expected.as_numpy_iterator())


@pytest.mark.parametrize("rows_per_record", [1, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_dtype_is_as_tensorflow_reads_it(tmp_path, monkeypatch, rows_per_record, shuffle):
    small_chunks(monkeypatch, chunk_bytes=3000, window_bytes=4000)

    # An int64_list has records of one size only where its numbers have one length.
    def values(dtype, shape, count, seed):
        found = any_bits(dtype, (count, *shape), seed)
        return found | np.int64(-(2**63)) if dtype == "int64" else found

    parts = [
        {f"{d}_{len(s)}": values(d, s, count, 7 * seed + i) for i, d in enumerate(DTYPES) for s in SHAPES}
        for seed, count in enumerate([9, 0, 8, 1, 14])
    ]
    shards.write(tmp_path / "out", {"train": parts}, rows_per_record=rows_per_record, features=shards.specs(parts[0]))

    assert_as_loaded(tmp_path / "out", batch_size=5, shuffle=shuffle, epochs=2)


@settings(max_examples=examples(12))
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    rows_per_record=st.integers(1, 5),
    chunk_bytes=st.integers(1, 600),
    window_bytes=st.integers(1, 800),
    batch_size=st.integers(1, 17),
    seed=st.integers(-(2**63), 2**64 - 1),
    drop_remainder=st.booleans(),
    together_bytes=st.sampled_from([1, 300, 1 << 19]),
    small_bytes=st.sampled_from([0, 300, 1 << 16]),
)
def test_order_and_values_are_those_of_load(
    tmp_path_factory,
    counts,
    rows_per_record,
    chunk_bytes,
    window_bytes,
    batch_size,
    seed,
    drop_remainder,
    together_bytes,
    small_bytes,
):
    out = tmp_path_factory.mktemp("data") / "out"
    write_numbered(out, counts, rows_per_record=rows_per_record)
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, chunk_bytes=chunk_bytes, window_bytes=window_bytes)
        patch.setattr(mapped, "TOGETHER_BYTES", together_bytes)
        patch.setattr(store, "SMALL_BYTES", small_bytes)
        assert_as_loaded(out, batch_size=batch_size, seed=seed, epochs=2, drop_remainder=drop_remainder)


@pytest.mark.parametrize("rows_per_record", [1, 3])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("as_supervised", [False, True])
def test_strings_and_ragged_rows_are_those_of_load(tmp_path, monkeypatch, rows_per_record, shuffle, as_supervised):
    monkeypatch.setattr(chunks, "WINDOW_BYTES", 1500)
    lengths = ragged.lengths_of(61)
    ragged.write(tmp_path / "out", [lengths[:20], [], lengths[20:50], lengths[50:]], rows_per_record=rows_per_record)

    assert_as_loaded(tmp_path / "out", batch_size=7, shuffle=shuffle, as_supervised=as_supervised, epochs=2)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64", "complex64"])
def test_ragged_rows_of_every_kind_of_dtype(tmp_path, dtype):
    rows = {"v": [any_bits(dtype, (k, 2), k) for k in (3, 0, 1, 5, 2)]}
    feature = FeatureSpec(name="v", dtype=dtype, shape=(None, 2))
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=2, features=[feature], chunk_records=2)

    assert_as_loaded(tmp_path / "out", batch_size=2)


def test_the_golden_order(ragged_root):
    found = ragged.numbers_of(Loader(ragged_root, "train", batch_size=7, seed=11), ragged.lengths_of(53))

    assert found[: len(ragged.GOLDEN)] == ragged.GOLDEN


def test_a_choice_of_features(root, ragged_root):
    (batch,) = Loader(root, "train", batch_size=53, shuffle=False, features=["x"])
    assert set(batch) == {"x"}
    (batch,) = Loader(ragged_root, "train", batch_size=53, shuffle=False, features=["w"])
    assert set(batch) == {"w", "w_length"}
    for wrong in (["y"], []):
        with pytest.raises(ValueError, match="features is a list of names of n, x; found"):
            Loader(root, "train", batch_size=1, features=wrong)


@pytest.mark.parametrize("epochs", [1, None])
@pytest.mark.parametrize("counts", [[0], [0, 0]])
def test_a_split_without_rows(tmp_path, counts, epochs):
    write_numbered(tmp_path / "out", counts, rows_per_record=2)

    assert list(Loader(tmp_path / "out", "train", batch_size=4, epochs=epochs)) == []


def test_each_iteration_goes_on_with_the_next_epochs(root):
    expected = numbers(Loader(root, "train", batch_size=10, epochs=6))
    loader = Loader(root, "train", batch_size=10, epochs=2)
    assert numbers(loader) + numbers(loader) + numbers(loader) == expected
    assert loader.epoch == 6
    # One that was left counts as a whole one.
    left = Loader(root, "train", batch_size=10, epochs=2)
    next(iter(left))
    assert numbers(left) == expected[2 * 53 : 4 * 53]
    endless = iter(Loader(root, "train", batch_size=53, epochs=None))
    assert numbers(next(endless) for _ in range(6)) == expected
    with pytest.raises(TypeError, match="has no length"):
        len(Loader(root, "train", batch_size=53, epochs=None))


# Failures.


@pytest.mark.parametrize("together_bytes", [1, 1 << 19])
@pytest.mark.parametrize("row", [0, 13, 19])
def test_a_damaged_record_is_named(root, monkeypatch, together_bytes, row):
    monkeypatch.setattr(mapped, "TOGETHER_BYTES", together_bytes)
    damage(root, loaders.open(root).manifest, 0, row)

    with pytest.raises(ShardError, match=rf"train-00000\.tfrecord: record {row // 4}: expected checksum .*; found"):
        list(Loader(root, "train", batch_size=10))


def test_another_layout_is_not_read_as_values(root):
    path = root / "train" / "train-00000.tfrecord"
    content = bytearray(path.read_bytes())
    content[20] ^= 1  # a tag or a name, not a value
    path.write_bytes(content)

    with pytest.raises(
        ShardError, match=r"record 0: expected a record of 4 rows in .* bytes, laid out as the manifest"
    ):
        list(Loader(root, "train", batch_size=10))


@pytest.mark.parametrize("at", [2, 9, 30, -2])
def test_a_damaged_record_of_ragged_rows_is_named(ragged_root, at):
    path = ragged_root / "train" / "train-00000.tfrecord"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    record = 0 if at >= 0 else 6

    with pytest.raises(ShardError, match=rf"train-00000\.tfrecord: record {record}: expected"):
        list(Loader(ragged_root, "train", batch_size=10))


@pytest.mark.parametrize("lost", [1, None])
def test_a_shard_that_lost_its_end_or_is_missing_is_named(root, lost):
    path = root / "train" / "train-00002.tfrecord"
    path.write_bytes(path.read_bytes()[:-lost]) if lost else path.unlink()

    with pytest.raises(ShardError, match=r"train-00002\.tfrecord: expected a shard of \d+ bytes; found"):
        list(Loader(root, "train", batch_size=10))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is at least 1; found 0"),
        ({"batch_size": 2.0}, TypeError, "integer"),
        ({"seed": 1.5}, TypeError, "integer"),
        ({"epochs": 0}, ValueError, "epochs is at least 1, or None for ever; found 0"),
        ({"split": "valid"}, ManifestError, "there is no split 'valid'; the splits are train"),
        ({"cache_bytes": 10}, ValueError, "cache_bytes is the limit of cache_dir; found 10 and no cache_dir"),
        (
            {"cache_dir": "c", "cache_bytes": -1},
            ValueError,
            "cache_bytes is at least 0, or None for no limit; found -1",
        ),
        ({"on_corrupt": "warn"}, ValueError, "on_corrupt is one of error, skip; found 'warn'"),
        ({"on_corrupt": "skip"}, ValueError, "expects remainder='pad'.*; found remainder='keep'"),
    ],
)
def test_bad_options_are_named(root, options, error, message):
    with pytest.raises(error, match=message):
        Loader(**({"root": root, "split": "train", "batch_size": 10} | options))


def test_names_that_a_batch_needs(tmp_path):
    features = (
        FeatureSpec(name="v", dtype="uint8", shape=(None,)),
        FeatureSpec(name="v_length", dtype="float32", shape=()),
    )
    rows = {"v": [np.zeros(2, "u1")], "v_length": np.zeros(1, "f4")}
    shards.write(tmp_path / "a", {"train": [rows]}, rows_per_record=1, features=features, chunk_records=1)
    with pytest.raises(ValueError, match="v_length: the lengths of v have this name"):
        Loader(tmp_path / "a", "train", batch_size=1)
    rows = {"mask": np.zeros(1, "f4")}
    shards.write(tmp_path / "b", {"train": [rows]}, rows_per_record=1, features=shards.specs(rows))
    with pytest.raises(ValueError, match="mask: the mask of padded batches has this name"):
        Loader(tmp_path / "b", "train", batch_size=1, remainder="pad")


# Many shards.


@pytest.fixture
def opened(monkeypatch):
    """The names of the shards that are opened, one after the other."""
    names, original = [], os.open

    def spy(path, *rest, **options):
        if str(path).endswith(".tfrecord"):
            names.append(pathlib.Path(path).name)
        return original(path, *rest, **options)

    monkeypatch.setattr(os, "open", spy)
    return names


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("small_bytes", [0, 1 << 16])
def test_a_batch_opens_only_the_shards_of_its_rows(tmp_path, monkeypatch, opened, shuffle, small_bytes):
    monkeypatch.setattr(store, "SMALL_BYTES", small_bytes)
    write_numbered(tmp_path / "out", [3] * 400, rows_per_record=2)
    expected = numbers(loaders.load(tmp_path / "out", "train", batch_size=5, shuffle=shuffle))
    opened.clear()
    loader = Loader(tmp_path / "out", "train", batch_size=5, shuffle=shuffle, prefetch=0)
    assert opened == []

    iterator = iter(loader)
    found = numbers([next(iterator)])
    assert sorted(opened) == sorted({f"train-{row // 3:05d}.tfrecord" for row in found})
    found += numbers(iterator)

    assert found == expected
    # A window holds them all, so none is read twice.
    assert sorted(opened) == [f"train-{shard:05d}.tfrecord" for shard in range(400)]


@pytest.mark.parametrize("small_bytes", [0, 1 << 16])
def test_a_random_row_opens_its_shard(tmp_path, monkeypatch, opened, small_bytes):
    monkeypatch.setattr(store, "SMALL_BYTES", small_bytes)
    write_numbered(tmp_path / "out", [3] * 400, rows_per_record=2)
    rows = loaders.open(tmp_path / "out")["train"]

    assert (rows[[1199, 4, 3]]["n"] + 1_000_000).tolist() == [1199, 4, 3]
    assert opened == ["train-00001.tfrecord", "train-00399.tfrecord"]
    assert (rows[::-1]["n"] + 1_000_000).tolist() == list(range(1200))[::-1]
    assert len(rows._shards.store._open) == store.OPEN_FILES


def open_below(directory):
    """How many files of this process are open that lie in a directory."""
    found = 0
    for path in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of this list
            found += str(directory) in os.readlink(path)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="it counts descriptors as Linux shows them")
def test_a_window_of_many_shards_holds_few_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SMALL_BYTES", 0)
    write_numbered(tmp_path / "out", [3] * 400, rows_per_record=2)
    held, read = [], store.Store.read

    def counted(*where):
        held.append(open_below(tmp_path))
        return read(*where)

    monkeypatch.setattr(store.Store, "read", counted)
    assert sum(len(batch["n"]) for batch in Loader(tmp_path / "out", "train", batch_size=1200, prefetch=0)) == 1200
    assert 0 < max(held) <= store.OPEN_FILES + 1


FEW_DESCRIPTORS = """
import os, resource, sys
import loaders
from loaders import numpy
from loaders.storage import store
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
store.SMALL_BYTES = int(sys.argv[2])
root, total = sys.argv[1], 0
several = [iter(numpy.Loader(root, "train", batch_size=30, seed=seed)) for seed in range(5)]
for batches in zip(*several, strict=True):
    total += sum(len(batch["n"]) for batch in batches)
rows = loaders.open(root)["train"]
total += sum(len(rows[start : start + 7]["n"]) for start in range(0, len(rows), 7))
print(total)
"""


@pytest.mark.parametrize("small_bytes", [0, 1 << 16])
def test_several_loaders_of_many_shards_need_few_descriptors(tmp_path, small_bytes):
    write_numbered(tmp_path / "out", [3] * 400, rows_per_record=2)

    done = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS, str(tmp_path / "out"), str(small_bytes)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )

    assert (done.stdout.strip(), done.stderr) == (str(6 * 1200), "")
