"""`WriteDataset`: the same bytes for the same keys and rows, and for rows of files those of a build."""

import pathlib

import apache_beam as beam
import numpy as np
import pytest

import loaders
import pipelines
from pipelines.beam import write
from pipelines.output.directory import read_manifest
from tests.support.arrays import RamFileSystem, empty_ram, write_files
from tests.support.builds import make
from tests.support.collecting import local_pipeline
from tests.support.manifests import stored

ROWS = 500
FEATURES = {"image": {"dtype": "float32", "shape": [2, 3]}, "label": {"dtype": "int64"}, "name": {"dtype": "string"}}
SHARDS = {"shard_bytes": 4096}


def rows():
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(ROWS, 2, 3)).astype(np.float32),
        "label": rng.integers(0, 4, ROWS),
        "name": np.array([f"é{number}".encode() for number in range(ROWS)]),
        "key": np.arange(ROWS) * 7,
    }


def batches(size, columns=None):
    columns = columns or rows()
    count = len(columns["key"])
    return [{name: column[start : start + size] for name, column in columns.items()} for start in range(0, count, size)]


def one_by_one(make_row):
    found = rows()
    return [make_row({name: column[row].tolist() for name, column in found.items()}) for row in reversed(range(ROWS))]


def run(elements, *arguments, **options):
    with local_pipeline() as pipeline:
        pipeline | beam.Create(elements) | pipelines.WriteDataset(*arguments, **options)


def content(root):
    """All files but those of the transform, by path."""
    root = pathlib.Path(root)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and "transform_fn" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("written") / "out"
    run(batches(50), root, FEATURES, **SHARDS)
    return root


def test_the_data_set_has_the_rows(written):
    assert pipelines.verify(str(written)).problems == ()
    found = {}
    for split in ("train", "validation", "test"):
        for batch in loaders.numpy.Loader(str(written), split, batch_size=100, remainder="keep", epochs=1):
            for image, label, name in zip(batch["image"], batch["label"], batch["name"], strict=True):
                found[bytes(name)] = (image, int(label))
    expected = rows()
    assert len(found) == ROWS
    for number, name in enumerate(expected["name"]):
        image, label = found[bytes(name)]
        assert np.array_equal(image, expected["image"][number])
        assert label == expected["label"][number]


def test_there_are_shards_splits_and_statistics(written):
    manifest = loaders.Manifest.loads((written / "manifest.json").read_bytes())
    assert {split: len(shards) for split, shards in manifest.splits.items()} == dict.fromkeys(manifest.splits, 4)
    assert 370 < manifest.rows("train") < 430
    assert {"statistics.npz", "statistics.pb", "moments.npz"} <= {file.name for file in written.iterdir()}
    assert not [path for path in written.rglob("*") if path.name.startswith((".", "_"))]


@pytest.mark.parametrize(
    "elements",
    [
        lambda: batches(7)[::-1],
        lambda: one_by_one(lambda row: (row["key"], {name: row[name] for name in FEATURES})),
        lambda: one_by_one(lambda row: beam.Row(**row)),
        lambda: batches(100, rows() | {"more": np.zeros(ROWS), "name": np.strings.decode(rows()["name"], "utf-8")}),
    ],
)
def test_the_bytes_are_the_same_in_any_form_and_order(written, tmp_path, elements):
    run(elements(), tmp_path / "out", FEATURES, **SHARDS)
    assert content(tmp_path / "out") == content(written)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"seed": 1}, {"splits": {"train": 0.5, "rest": 0.5}}, {"shard_bytes": 2048}, {"rows_per_record": 2}],
)
def test_options_change_the_data_set(written, tmp_path, options):
    run(batches(50), tmp_path / "out", FEATURES, **(SHARDS | options))
    assert content(tmp_path / "out") != content(written)
    assert pipelines.verify(str(tmp_path / "out")).problems == ()


def test_other_keys_are_another_order(written, tmp_path):
    run(batches(50, rows() | {"key": rows()["name"]}), tmp_path / "out", FEATURES, **SHARDS)
    assert content(tmp_path / "out") != content(written)


@pytest.mark.slow
def test_rows_that_come_later_move_none(tmp_path):
    """A row's split is a hash of its key."""
    found = []
    for count in (300, 500):
        columns = {name: column[:count] for name, column in rows().items()}
        root = tmp_path / f"{count}"
        run(batches(50, columns | {"id": columns["key"]}), root, {"id": {"dtype": "int64"}})
        ids = [batch["id"] for batch in loaders.numpy.Loader(str(root), "test", batch_size=1, epochs=1)]
        found.append(set(np.concatenate(ids).tolist()))
    assert found[0] == {number for number in found[1] if number < 300 * 7}


def test_groups_stay_together(tmp_path):
    options = {"splits": {"group": "label", "fractions": {"train": 0.5, "test": 0.5}}, "seed": 3}
    run(batches(50), tmp_path / "out", {"label": {"dtype": "int64"}}, **options)
    labels = [
        {
            int(label)
            for batch in loaders.numpy.Loader(str(tmp_path / "out"), split, batch_size=1, epochs=1)
            for label in batch["label"]
        }
        for split in ("train", "test")
    ]
    assert not labels[0] & labels[1]
    assert labels[0] | labels[1] == {0, 1, 2, 3}


def test_a_column_says_the_split_and_negative_numbers_drop(tmp_path):
    part = (np.arange(ROWS) % 3 - 1).astype(np.int64)
    options = {"splits": {"column": "part", "names": ["train", "test"]}}
    run(batches(50, {"key": np.arange(ROWS), "part": part}), tmp_path / "out", {"part": {"dtype": "int64"}}, **options)
    manifest = loaders.Manifest.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert [manifest.rows(split) for split in ("train", "test")] == [np.sum(part == 0), np.sum(part == 1)]
    assert manifest.dropped == np.sum(part == -1)


def test_rows_that_differ_in_length(tmp_path):
    lengths = np.arange(40) % 4
    values = np.arange(int(lengths.sum()) * 2, dtype=np.int16).reshape(-1, 2)
    column = pipelines.Ragged(values=values, lengths=lengths)
    features = {"steps": {"dtype": "int16", "shape": [None, 2]}}
    for number, size in enumerate((40, 9)):
        run(batches(size, {"key": np.arange(40), "steps": column}), tmp_path / f"{number}", features)
    singles = [(row, {"steps": column[row : row + 1].values.tolist()}) for row in range(40)]
    run(singles, tmp_path / "2", features)
    assert content(tmp_path / "0") == content(tmp_path / "1") == content(tmp_path / "2")
    assert pipelines.verify(str(tmp_path / "0")).problems == ()


def test_an_object_store():
    empty_ram()
    run(batches(50), "ram://bucket/out", FEATURES)
    assert "ram://bucket/out/manifest.json" in RamFileSystem.contents
    assert not [path for path in RamFileSystem.contents if "_build" in path]


# Beside builds.


def make_source(root, **more):
    rng = np.random.default_rng(1)
    arrays = {}
    for part, count in enumerate((300, 150, 50)):
        arrays[f"x-{part}.npy"] = rng.normal(size=(count, 4)).astype(np.float32)
        arrays[f"labels-{part}.npy"] = rng.integers(0, 3, count)
    return write_files(root, arrays)


STRATIFIED = {"stratify": "labels", "fractions": {"train": 0.7, "test": 0.3}}
PLAIN = {"features": {"x": {"impute": "none", "normalize": "none"}}, "shard_bytes": 1024}


@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        pytest.param(PLAIN | {"shard_bytes": 2**20, "seed": 5}, marks=pytest.mark.slow),
        pytest.param(PLAIN | {"splits": STRATIFIED}, marks=pytest.mark.slow),
        pytest.param(PLAIN | {"filter": "labels != 1"}, marks=pytest.mark.slow),
    ],
)
def test_rows_of_files_make_the_data_set_of_a_build(tmp_path, config):
    source = make_source(tmp_path / "src")
    reading = pipelines.ReadNpy(source, config=config, batch_bytes=600, key="row")
    with local_pipeline() as pipeline:
        pipeline | reading | pipelines.WriteDataset(tmp_path / "out", source=reading)
    make(source, tmp_path / "built", **config)
    assert content(tmp_path / "out") == content(tmp_path / "built")


@pytest.mark.slow
def test_directories_of_splits_make_the_data_set_of_a_build(tmp_path):
    for split in ("train", "test"):
        make_source(tmp_path / "src" / split)
    reading = pipelines.ReadNpy(tmp_path / "src", config=PLAIN, batch_bytes=600, key="row")
    with local_pipeline() as pipeline:
        pipeline | reading | pipelines.WriteDataset(tmp_path / "out", source=reading)
    make(str(tmp_path / "src"), tmp_path / "built", **PLAIN)
    assert content(tmp_path / "out") == content(tmp_path / "built")


def test_rows_that_the_pipeline_leaves_out_are_dropped(tmp_path):
    source = make_source(tmp_path / "src")
    reading = pipelines.ReadNpy(source, config=PLAIN, key="row")
    with local_pipeline() as pipeline:
        kept = pipeline | reading | beam.Map(_odd)
        kept | pipelines.WriteDataset(tmp_path / "out", source=reading)
    manifest = loaders.Manifest.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert (sum(map(manifest.rows, manifest.splits)), manifest.dropped) == (250, 250)


def _odd(batch):
    return {name: column[batch["row"] % 2 == 1] for name, column in batch.items()}


# What is in the way, and what goes wrong.


@pytest.mark.slow
def test_a_data_set_is_replaced_only_when_asked(written, tmp_path):
    run(batches(50), tmp_path / "out", {"label": {"dtype": "int64"}})
    with pytest.raises(pipelines.OutputError, match="overwrite=True replaces it"):
        run(batches(50), tmp_path / "out", FEATURES, **SHARDS)
    run(batches(50), tmp_path / "out", FEATURES, overwrite=True, **SHARDS)
    # The shards have names of their own, so that the data set before was whole until the end.
    replaced = {name.replace("-g001", ""): data for name, data in content(tmp_path / "out").items()}
    assert {**replaced, "manifest.json": b""} == {**content(written), "manifest.json": b""}
    assert stored(read_manifest(str(tmp_path / "out"))) == stored(read_manifest(str(written)))
    assert pipelines.verify(tmp_path / "out").problems == ()


def test_other_files_are_left_alone(tmp_path):
    write_files(tmp_path / "out", {"mine.npy": np.ones(3)})
    with pytest.raises(Exception, match="expected an empty directory"):
        run(batches(50), tmp_path / "out", FEATURES, overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.npy"]


def test_what_was_finished_is_not_written_again(written, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(write, "publish", fail)
        with pytest.raises(Exception, match="no room"):
            run(batches(50), tmp_path / "out", FEATURES, **SHARDS)
    assert not (tmp_path / "out" / "manifest.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tfrecord")}
    run(batches(30), tmp_path / "out", FEATURES, **SHARDS)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tfrecord")} == before
    assert content(tmp_path / "out") == content(written)


@pytest.mark.slow
def test_other_rows_of_an_unfinished_data_set_are_written(tmp_path, monkeypatch):
    """The number of rows is the same, their values are not."""
    with monkeypatch.context() as patch:
        patch.setattr(write, "publish", None)
        with pytest.raises(Exception, match="NoneType"):
            run(batches(50), tmp_path / "out", FEATURES, **SHARDS)
    other = rows() | {"label": rows()["label"] + 1}
    run(batches(50, other), tmp_path / "out", FEATURES, **SHARDS)
    run(batches(50, other), tmp_path / "alone", FEATURES, **SHARDS)
    assert content(tmp_path / "out") == content(tmp_path / "alone")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": np.zeros(ROWS, np.int64)}, "expected a key of its own for each"),
        ({"label": np.zeros(ROWS)}, r"feature label: expected int64 rows of shape \(\); found float64 rows of shape"),
        ({"image": np.zeros((ROWS, 3), np.float32)}, r"feature image: expected float32 rows of shape \(2, 3\); found"),
        ({"label": np.zeros(3, np.int64)}, "feature label: expected 50 rows, as there are keys; found 3"),
        ({"key": np.zeros(ROWS)}, "expected keys of integers, text or bytes; found float64"),
        ({"label": None}, "feature label: expected a column of this name"),
    ],
)
def test_rows_that_are_not_as_declared(tmp_path, change, message):
    columns = {name: column for name, column in (rows() | change).items() if column is not None}
    with pytest.raises(Exception, match=message):
        run(batches(50, columns), tmp_path / "out", FEATURES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": {}}, "features: expected at least one; found none"),
        ({"features": {"x": {"dtype": "floaty"}}}, r"features\.x: .*dtype is one of"),
        ({"features": {"x": {"dtype": "int64", "size": 3}}}, r"features\.x: .*size"),
        ({"features": {"key": {"dtype": "int64"}}}, "key: expected a name that no feature has"),
        ({"splits": "directory"}, "splits: expected fractions, group, column or time; found 'directory'"),
        ({"splits": {"group": "other", "fractions": {"train": 1}}}, "expected a feature, one of image"),
        ({"splits": {"a": 0.5, "b": 0.5}}, "statistics are learned from the split called"),
    ],
)
def test_what_is_refused_before_anything_runs(tmp_path, arguments, message):
    with pytest.raises(pipelines.ConfigError, match=message):
        pipelines.WriteDataset(tmp_path, **({"features": FEATURES} | arguments))


def test_a_source_says_all(tmp_path):
    source = make_source(tmp_path / "src")
    with pytest.raises(pipelines.ConfigError, match="expected ReadNpy"):
        pipelines.WriteDataset(tmp_path / "out", source=pipelines.ReadNpy(source))
    reading = pipelines.ReadNpy(source, key="row")
    with pytest.raises(pipelines.ConfigError, match="seed: expected nothing beside a source"):
        pipelines.WriteDataset(tmp_path / "out", source=reading, seed=1)
    with pytest.raises(pipelines.ConfigError, match=r"transform: expected what Analyze has learned, as .*; found none"):
        pipelines.WriteDataset(tmp_path / "out", source=reading)
