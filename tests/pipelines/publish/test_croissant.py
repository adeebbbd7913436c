"""`croissant.json` as MLCommons' own reader takes it."""

import shutil

import mlcroissant
import numpy as np
import pytest

from pipelines.maintain.verify import verify
from pipelines.output.directory import read_manifest
from tests.support.arrays import DTYPES, values, write_files
from tests.support.builds import append, build

ROWS = 60
CLASSES = ["kelp", "sand", "rock"]


def arrays(rows=ROWS):
    every = {f"a {dtype}": values((rows, 2, 3), dtype) for dtype in DTYPES}
    return every | {
        "depth": np.array([b"w"] * rows),
        "label": np.arange(rows) % 3,
        "time": np.arange(rows).astype("datetime64[s]"),
        "z": np.ones(rows, np.complex64),
    }


def write(root, part, found):
    return write_files(root, {f"{name}-{part}.npy": array for name, array in found.items()})


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("croissant")
    write(root / "src", 0, arrays())
    plain = {name: {"impute": "none", "normalize": "none"} for name in arrays()}
    plain["label"]["class_names"] = CLASSES
    build(root / "src", root / "out", {"features": plain, "splits": {"train": 0.7, "test [1]": 0.3}})
    return root


def opened(root):
    found = mlcroissant.Dataset(str(root / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    return found


def split_rows(found):
    return {record["splits/name"]: record["splits/rows"] for record in found.records("splits")}


def test_it_is_valid_and_says_what_a_row_is(built):
    manifest, found = read_manifest(str(built / "out")), opened(built / "out").metadata
    fields = {field.name: field for field in found.record_sets[-1].fields}

    assert [*fields] == [spec.name for spec in manifest.features]
    types = {name: field.data_types[0].rpartition("/")[2].lower() for name, field in fields.items()}
    for dtype in DTYPES:
        assert types[f"a {dtype}"] == {"bool": "boolean"}.get(dtype, dtype)
        assert fields[f"a {dtype}"].array_shape == "2,3"
    assert (types["z"], fields["z"].array_shape) == ("float32", "2")
    assert fields["label"].description == "label"
    assert fields["time"].description == "input, datetime64[s]"


def test_it_names_the_classes(built):
    classes = opened(built / "out").records("classes/label")

    names = {row["classes/label/number"]: row["classes/label/name"] for row in classes}
    assert names == dict(enumerate(CLASSES))


def test_its_shards_are_those_of_the_manifest(built):
    (shards,) = opened(built / "out").metadata.distribution
    found = {
        path.relative_to(built / "out").as_posix() for each in shards.includes for path in (built / "out").glob(each)
    }

    assert found == {shard.file for shards in read_manifest(str(built / "out")).splits.values() for shard in shards}


def test_its_splits_are_those_of_the_manifest_also_after_an_append(built, tmp_path):
    root = shutil.copytree(built / "out", tmp_path / "out")
    manifest = read_manifest(str(root))
    assert split_rows(opened(root)) == {split: manifest.rows(split) for split in manifest.splits}
    write(tmp_path / "more", 1, arrays(40))
    append(tmp_path / "more", root)
    grown = read_manifest(str(root))

    assert sum(map(grown.rows, grown.splits)) == ROWS + 40
    assert split_rows(opened(root)) == {split: grown.rows(split) for split in grown.splits}
    assert not verify(str(root)).problems


def test_it_is_the_same_wherever_the_data_set_lies(built, tmp_path):
    manifest = read_manifest(str(built / "out"))
    build(built / "src", tmp_path / "elsewhere", dict(manifest.config))
    found = (built / "out" / "croissant.json").read_bytes()

    assert (tmp_path / "elsewhere" / "croissant.json").read_bytes() == found
    assert "croissant.json" in {file.file for file in manifest.files}
    assert str(built).encode() not in found
