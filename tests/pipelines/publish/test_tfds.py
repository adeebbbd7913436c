"""TensorFlow Datasets opens what is built with `layout: interchange`, where it lies."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from pipelines.maintain.verify import verify
from pipelines.output.directory import read_manifest
from tests.support.arrays import values, write_files
from tests.support.bits import assert_same_bits
from tests.support.builds import append, build
from tests.support.every_dtype import rows_of_every_dtype, write_rows

ROWS = 24
FILES = {"dataset_info.json", "features.json"}


@pytest.fixture(scope="module")
def rows():
    return rows_of_every_dtype(ROWS)


@pytest.fixture(scope="module")
def built(rows, tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    build(root / "src", root / "out", write_rows(root / "src", rows) | {"layout": "interchange", "shard_bytes": 10_000})
    return root / "out"


def test_every_dtype_is_read(rows, built):
    builder = tfds.builder_from_directory(str(built))
    manifest, found = read_manifest(str(built)), {}
    for split in manifest.splits:
        read = list(tfds.as_numpy(builder.as_dataset(split=split)))
        assert len(read) == builder.info.splits[split].num_examples == manifest.rows(split)
        found |= {int(row["row"]): row for row in read}

    assert len(manifest.shards("train")) > 1
    assert sorted(found) == list(range(ROWS))
    for number, row in found.items():
        assert row.keys() == rows.keys()
        for name, value in row.items():
            expected = np.asarray(rows[name][number])
            if name.endswith("string"):
                assert np.array_equal(value, expected)
            elif name.endswith("uint32"):  # which TensorFlow Datasets does not decode
                assert value == expected.tobytes()
            else:
                assert_same_bits(value, expected)


@pytest.fixture
def table(tmp_path):
    write_files(tmp_path / "src", {"x.npy": values((200, 3), "float32"), "label.npy": np.arange(200) % 3})
    said = {"features": {"x": {"impute": "none", "normalize": "none"}}, "layout": "interchange", "splits": {"train": 1}}
    build(tmp_path / "src", tmp_path / "out", said)
    return tmp_path


def test_slices_and_pairs(table):
    builder = tfds.builder_from_directory(str(table / "out"))

    assert len(list(builder.as_dataset(split="train[10%:30%]"))) == 40
    x, label = next(iter(builder.as_dataset(split="train", as_supervised=True)))
    assert (x.shape, label.shape) == ((3,), ())


def test_it_is_loaded_by_its_name(table):
    """Where it lies as TensorFlow Datasets would have put it: a directory of a name, with one of the version in it."""
    (table / "data" / "mine").mkdir(parents=True)
    (table / "out").rename(table / "data" / "mine" / "1.0.0")
    options = {"data_dir": str(table / "data"), "read_config": tfds.ReadConfig(try_autocache=False)}

    assert len(list(tfds.load("mine", split="train[10%:30%]", **options))) == 40
    (x, label), *_ = tfds.load("mine:1.0.0", split="train", as_supervised=True, shuffle_files=True, **options)
    assert (x.shape, label.shape) == ((3,), ())


def test_shards_that_have_replaced_others_are_found(table):
    build(table / "src", table / "out", {**read_manifest(str(table / "out")).config, "seed": 5}, overwrite=True)

    assert "-g001-" in read_manifest(str(table / "out")).shards("train")[0].file
    assert len(list(tfds.builder_from_directory(str(table / "out")).as_dataset(split="train"))) == 200


def test_what_it_would_not_find_whole_it_does_not_open(table):
    write_files(table / "more", {"x-1.npy": values((20, 3), "float32"), "label-1.npy": np.arange(20) % 3})
    append(table / "more", table / "out")
    root = table / "many"
    build(table / "src", root, {"rows_per_record": 4})

    assert not verify(str(table / "out")).problems
    for each in (table / "out", root):
        assert not FILES & (
            {file.file for file in read_manifest(str(each)).files} | {path.name for path in each.iterdir()}
        )
