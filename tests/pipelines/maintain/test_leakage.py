"""Rows in more than one split: found exactly, and counted as plain Python counts them."""

import collections
import itertools
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from loaders.format.spec import FeatureSpec
from pipelines import counters
from pipelines.errors import ConfigError, DataError
from pipelines.maintain import leakage as leakage_module
from pipelines.maintain.leakage import Place, leakage
from pipelines.maintain.row_hashes import BUCKET_ROWS, DIGEST_BYTES, HashBuckets, hash_rows
from pipelines.results import print_blocks
from tests.support import shards


def write(root, splits, *, rows_per_record, roles=None):
    """A data set; `splits` gives for each split the rows of each shard."""
    features = shards.specs(next(rows for parts in splits.values() for rows in parts), roles)
    shards.write(root, splits, rows_per_record=rows_per_record, features=features)
    return str(root)


def counted(splits, names):
    """What a dictionary of the rows' bytes shows: distinct rows in several splits, and what each pair shares."""
    found = {
        split: collections.Counter(
            tuple(rows[name][row].tobytes() for name in names) for rows in parts for row in range(len(rows[names[0]]))
        )
        for split, parts in splits.items()
    }
    distinct = {
        row for one, other in itertools.combinations(found, 2) for row in found[one].keys() & found[other].keys()
    }
    pairs = {}
    for one, other in itertools.combinations(found, 2):
        both = found[one].keys() & found[other].keys()
        if both:
            counts = tuple(sum(found[split][row] for row in both) for split in (one, other))
            pairs[one, other] = (len(both), *counts)
    return len(distinct), pairs


def pairs_of(leaks):
    return {pair.splits: (pair.distinct, *pair.rows) for pair in leaks.pairs}


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=2), min_size=1, max_size=4),
    rows_per_record=st.sampled_from([1, 2, 8]),
    values=st.integers(1, 200),
    seed=st.integers(0, 1000),
)
def test_shared_rows_are_those_that_plain_python_counts(tmp_path_factory, sizes, rows_per_record, values, seed):
    generator = np.random.default_rng(seed)
    splits = {
        f"split{number}": [
            {
                "a": generator.integers(0, values, (count, 1)).astype(np.float32),
                "b": generator.integers(0, 2, (count, 3)).astype(np.uint8),
                "c": generator.integers(-2, 0, count),  # negative numbers: each is ten bytes in an int64_list
                "label": -1 - np.arange(count),
            }
            for count in parts
        ]
        for number, parts in enumerate(sizes)
    }
    root = write(
        tmp_path_factory.mktemp("out") / "o", splits, rows_per_record=rows_per_record, roles={"label": "label"}
    )
    leaks = leakage(root)
    assert leaks.features == ("a", "b", "c")
    assert leaks.rows == sum(map(sum, sizes))
    assert (leaks.distinct, pairs_of(leaks)) == counted(splits, ("a", "b", "c"))
    named = leakage(root, features=["b"])
    assert (named.distinct, pairs_of(named)) == counted(splits, ("b",))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=2), min_size=2, max_size=3),
    rows_per_record=st.sampled_from([1, 2, 8]),
    named=st.sampled_from(["a", "steps", "text", None]),
    seed=st.integers(0, 1000),
)
def test_rows_of_different_lengths(tmp_path_factory, sizes, rows_per_record, named, seed):
    generator = np.random.default_rng(seed)

    def rows(count):
        return {
            "a": generator.integers(-3, 0, count),
            "f": generator.choice(np.array([0.5, np.nan], np.float32), (count, 1)),
            "steps": [
                generator.integers(0, 2, (length, 1)).astype(np.uint16) for length in generator.integers(0, 3, count)
            ],
            "text": generator.choice(np.array([b"", b"a", b"ab", b"b"]), (count, 2)),
        }

    splits = {f"split{number}": [rows(count) for count in parts] for number, parts in enumerate(sizes)}
    features = (
        FeatureSpec(name="a", dtype="int64", shape=()),
        FeatureSpec(name="f", dtype="float32", shape=(1,)),
        FeatureSpec(name="steps", dtype="uint16", shape=(None, 1)),
        FeatureSpec(name="text", dtype="string", shape=(2,)),
    )
    root = tmp_path_factory.mktemp("out") / "o"
    shards.write(root, splits, rows_per_record=rows_per_record, features=features, chunk_records=3)
    leaks = leakage(str(root), features=None if named is None else [named])
    names = ("a", "f", "steps", "text") if named is None else (named,)
    assert (leaks.distinct, pairs_of(leaks)) == counted(splits, names)
    assert leaks.features == names


def test_shards_are_counted_as_they_are_read(tmp_path):
    rows = [{"x": np.arange(6, dtype=np.int64)}, {"x": np.arange(4, dtype=np.int64)}]
    out = write(tmp_path, {"train": rows, "test": rows[:1]}, rows_per_record=2)
    with counters.counting() as counter:
        leakage(out)
    assert counter.read("leakage").rows == 16


def test_examples_are_places_of_equal_rows(tmp_path):
    generator = np.random.default_rng(0)
    splits = {
        split: [{"x": generator.integers(0, 50, (count, 2)).astype(np.int16)} for count in counts]
        for split, counts in {"train": [70, 90], "test": [40, 30], "other": [0]}.items()
    }
    leaks = leakage(write(tmp_path / "o", splits, rows_per_record=4))
    assert len(leaks.examples) == min(leaks.distinct, leakage_module.EXAMPLES) > 1
    for places in leaks.examples:
        rows = set()
        for place in places:
            split, number = re.fullmatch(r"(\w+)/\w+-(\d+).*", place.file).groups()
            rows.add(splits[split][int(number)]["x"][place.row].tobytes())
        assert len(rows) == 1
        assert [place.file.split("/")[0] for place in places] == ["train", "test"]


def test_rows_are_compared_by_bits(tmp_path):
    nan = np.array([np.nan, np.nan, 0.0, 1.0], dtype=np.float32)
    other = np.array([0x7FC00001], dtype=np.uint32).view(np.float32)
    root = write(
        tmp_path / "o",
        {"train": [{"x": nan}], "test": [{"x": np.concatenate([nan[:1], other, np.float32([-0.0, 2.0])])}]},
        rows_per_record=2,
    )
    leaks = leakage(root)
    assert pairs_of(leaks) == {("train", "test"): (1, 2, 1)}
    assert leaks.examples == (
        (Place(file="train/train-00000.tfrecord", row=0), Place(file="test/test-00000.tfrecord", row=0)),
    )


@pytest.mark.parametrize("width", [DIGEST_BYTES // 4 - 1, DIGEST_BYTES // 4])
def test_narrow_and_wide_rows(tmp_path, width):
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(40, width)).astype(np.float32)
    changed = rows[:20].copy()
    changed[:5, width // 2] += 1
    root = write(tmp_path / "o", {"train": [{"x": rows}], "test": [{"x": changed}]}, rows_per_record=4)
    assert pairs_of(leakage(root)) == {("train", "test"): (15, 15, 15)}


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_signs_and_single_bits_change_the_hash(words, seed):
    """Changes that cancel out in a weaker chain: the uppermost bits of words one after the other."""
    generator = np.random.default_rng(seed)
    row = generator.integers(0, 2**63, words).astype(np.uint64)
    masks = np.array([0, 1 << 63, 1 << 31, (1 << 63) | (1 << 31), 1 << 32, 1], dtype=np.uint64)
    rows = np.unique(row ^ masks[generator.integers(0, len(masks), (500, words))], axis=0)
    hashes = hash_rows([rows.view(np.uint8)])
    for half in hashes.T:
        assert len(np.unique(half)) == len(rows)


def test_the_bytes_of_features_do_not_run_into_each_other():
    one = hash_rows([np.array([[1, 2, 3]], np.uint8), np.array([[4]], np.uint8)])
    other = hash_rows([np.array([[1, 2]], np.uint8), np.array([[3, 4]], np.uint8)])
    assert (one != other).all()


@pytest.mark.slow
def test_buckets_keep_every_row_and_equal_hashes_together(tmp_path):
    rows = 5 * BUCKET_ROWS
    generator = np.random.default_rng(2)
    hashes = generator.integers(0, 2**64, (rows, 2), dtype=np.uint64)[generator.integers(0, rows, rows)]
    buckets = HashBuckets(str(tmp_path), rows)
    for start in range(0, rows, 100_000):
        buckets.add(hashes[start : start + 100_000])
    seen, owners, largest = [], [], 0
    for number, entries in enumerate(buckets.read()):
        np.testing.assert_array_equal(entries["first"], hashes[entries["row"], 0])
        np.testing.assert_array_equal(entries["second"], hashes[entries["row"], 1])
        seen.append(entries["row"])
        owners.append(np.stack([entries["first"], np.full(len(entries), number, np.uint64)], axis=1))
        largest = max(largest, len(entries))
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(rows))
    pairs = np.unique(np.concatenate(owners), axis=0)
    assert len(pairs) == len(np.unique(hashes[:, 0]))
    assert number == 7
    assert largest < 1.05 * rows / 8
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_many_rows_take_little_memory(tmp_path):
    rows = np.arange(1_500_000, dtype=np.int32)
    splits = {"train": [{"x": rows}], "test": [{"x": rows[::-1][:1_000_000]}]}
    root = write(tmp_path / "o", splits, rows_per_record=8192)
    del rows, splits
    tracemalloc.start()  # NumPy tells it of its arrays
    leaks = leakage(root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pairs_of(leaks) == {("train", "test"): (1_000_000, 1_000_000, 1_000_000)}
    assert peak < 48 * 2**20


def test_what_is_compared_is_checked(tmp_path):
    rows = {"x": np.zeros(3, np.float32), "y": np.zeros(3, np.int64)}
    root = write(tmp_path / "o", {"train": [rows]}, rows_per_record=2, roles={"y": "label", "x": "id"})
    with pytest.raises(ConfigError, match="features: expected some of x, y; found 'z'"):
        leakage(root, features=["z"])
    with pytest.raises(ConfigError, match="expected features whose rows are compared, some of x, y; found none"):
        leakage(root)
    assert leakage(root, features=["y"]).distinct == 0


def test_a_shard_that_is_too_short(tmp_path):
    root = write(tmp_path / "o", {"train": [{"x": np.zeros(30, np.float32)}]}, rows_per_record=4)
    (shard,) = (tmp_path / "o" / "train").iterdir()
    shard.write_bytes(shard.read_bytes()[:-40])
    expected = r"train-00000.tfrecord: expected in record 6 a record of \d+ bytes with 4 rows; found \d+ bytes"
    with pytest.raises(DataError, match=expected):
        leakage(root)


@pytest.mark.parametrize(("old", "new"), [(b"\n\x0btext-abc", b"\n\xfbtext-abc"), (b"name", b"nama")])
def test_a_record_that_is_not_as_the_manifest_says(tmp_path, old, new):
    features = (FeatureSpec(name="name", dtype="string", shape=()),)
    rows = {"name": np.array([b"text-abcdef"] * 5)}
    shards.write(tmp_path / "o", {"train": [rows]}, rows_per_record=2, features=features, chunk_records=1)
    (shard,) = (tmp_path / "o" / "train").iterdir()
    assert old in shard.read_bytes()
    shard.write_bytes(shard.read_bytes().replace(old, new))
    with pytest.raises(DataError, match=r"train-00000.tfrecord: expected in record 0 .*; found"):
        leakage(str(tmp_path / "o"))


def show(leaks):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_blocks(console, leaks.blocks())
    return console.export_text()


def test_what_is_shown(tmp_path):
    x = np.arange(2000, dtype=np.float32)
    root = write(tmp_path / "o", {"train": [{"x": x}], "test": [{"x": np.repeat(x[:1200], 2)}]}, rows_per_record=4)
    text = show(leakage(root))
    assert "1,200 different rows are in more than one split: 4,400 rows compared by x" in text
    assert re.search(r"train and test +1,200 +1,200 +2,400\n", text)
    assert re.search(r"  train/train-00000.tfrecord \d+, test/test-00000.tfrecord \d+\n", text)
    root = write(tmp_path / "p", {"train": [{"x": x}], "test": [{"x": x + 0.5}]}, rows_per_record=4)
    assert show(leakage(root)) == "No row is in more than one split: 4,000 rows compared by x\n"
