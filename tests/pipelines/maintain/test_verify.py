"""A damaged data set is found out, and the damage is named; so is what could not be written."""

import contextlib
import errno
import os
import pathlib
import resource
import shutil
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import loaders
import pipelines
from loaders import numpy as numpy_loader
from loaders.format.encode import encode_variable_records
from loaders.format.manifest import Manifest, ManifestError
from loaders.format.spec import FeatureSpec
from loaders.storage.store import ShardError
from pipelines.config.schema import parse_config
from pipelines.errors import NpyflowError
from pipelines.interface.tables import of_statistics
from pipelines.maintain.verify import verify
from pipelines.output.directory import Output, read_manifest
from pipelines.reading.batches import Ragged
from pipelines.runners.flink import failure
from pipelines.write.shards import _write_shard
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.manifests import change_manifest


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("built")
    x = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    write_files(root / "src", {"x.npy": x, "labels.npy": np.arange(400)})
    build(str(root / "src"), str(root / "out"), parse_config({"rows_per_record": 32, "shard_bytes": 3000}))
    return root / "out"


@pytest.fixture
def dataset(built, tmp_path):
    return pathlib.Path(shutil.copytree(built, tmp_path / "out"))


def problems(dataset):
    return [str(problem) for problem in verify(str(dataset)).problems]


def first_shard(dataset):
    return dataset / read_manifest(str(dataset)).splits["train"][0].file


def test_what_was_built_verifies(dataset):
    found = verify(str(dataset))
    assert found.problems == ()
    assert found.rows == 400
    assert found.bytes == sum(path.stat().st_size for path in dataset.rglob("*.tfrecord"))


@pytest.mark.parametrize("position", [0, 9, 12, 40, 700, -5, -1])
def test_a_flipped_bit(dataset, position):
    shard = first_shard(dataset)
    data = bytearray(shard.read_bytes())
    data[position] ^= 4
    shard.write_bytes(data)
    (problem,) = problems(dataset)
    assert problem.startswith(str(shard))


def test_a_truncated_shard(dataset):
    shard = first_shard(dataset)
    data = shard.read_bytes()
    shard.write_bytes(data[:-3])
    assert problems(dataset) == [f"{shard}: expected {len(data)} bytes; found {len(data) - 3} bytes"]


def test_a_missing_shard(dataset):
    shard = first_shard(dataset)
    size = shard.stat().st_size
    shard.unlink()
    assert problems(dataset) == [f"{shard}: expected a shard of {size} bytes; found no file"]


def test_records_that_were_swapped_match_their_own_checksums_only(dataset):
    shard, size = first_shard(dataset), read_manifest(str(dataset)).record_bytes
    data = shard.read_bytes()
    shard.write_bytes(data[size : 2 * size] + data[:size] + data[2 * size :])
    (problem,) = problems(dataset)
    assert "CRC-32C" in problem


def test_a_shard_of_another_split(dataset):
    manifest = read_manifest(str(dataset))
    shutil.copy(dataset / manifest.splits["test"][0].file, first_shard(dataset))
    assert problems(dataset)


def test_a_manifest_that_counts_other_rows(dataset):
    def fewer_rows(value):
        value["splits"]["train"]["rows"] -= 1
        value["splits"]["train"]["shards"][0]["rows"] -= 1

    change_manifest(dataset, fewer_rows)
    with pytest.raises(ManifestError, match=r"train-00000-of-.* bytes for \d+ rows; found"):
        verify(str(dataset))


def test_a_manifest_whose_numbers_do_not_add_up(dataset):
    change_manifest(dataset, lambda value: value["splits"]["train"].update(rows=7))
    with pytest.raises(ManifestError, match=r"expected \d+ rows, as its shards have together; found 7"):
        verify(str(dataset))


def test_a_manifest_that_was_changed(dataset):
    path = dataset / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ManifestError, match="the manifest is damaged, or has been changed"):
        verify(str(dataset))


def test_a_manifest_that_is_not_text(dataset):
    (dataset / "manifest.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ManifestError, match="expected a JSON manifest"):
        verify(str(dataset))


@pytest.mark.parametrize("file", ["../other/x.tfrecord", "/x.tfrecord", "test/x.tfrecord", "train/../x"])
def test_a_manifest_of_files_elsewhere_is_refused(dataset, file):
    change_manifest(dataset, lambda value: value["splits"]["train"]["shards"][0].update(file=file))
    with pytest.raises(ManifestError, match="expected shards in its own directory"):
        verify(str(dataset))


def test_a_file_between_the_shards(dataset):
    stranger = dataset / "train" / "train-00000-of-00002.tfrecord"
    stranger.write_bytes(b"")
    assert problems(dataset) == [f"{stranger}: expected only shards of the manifest; found this file"]


@pytest.mark.parametrize("name", ["statistics.pb", "statistics.npz", "transform/transform_fn/saved_model.pb"])
def test_a_missing_file_beside_the_shards(dataset, name):
    data = (dataset / name).read_bytes()
    (dataset / name).unlink()
    (problem,) = problems(dataset)
    assert problem.startswith(f"{dataset / name}: expected {len(data)} bytes with CRC-32C ")
    assert problem.endswith("; found no file")


def test_a_damaged_file_beside_the_shards(dataset):
    path = dataset / "transform" / "transform_fn" / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (problem,) = problems(dataset)
    assert problem.startswith(f"{path}: expected")


READERS = {
    "statistics.npz": [
        lambda dataset: of_statistics(str(dataset), read_manifest(str(dataset))),
        pipelines.report,
        lambda dataset: loaders.open(dataset).statistics,
    ],
    "sample.npz": [pipelines.report],
    "fitted.npz": [lambda dataset: of_statistics(str(dataset), read_manifest(str(dataset))), loaders.inverse],
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_beside_the_shards_is_named_by_all_who_read_it(dataset, name):
    """Also where it is an archive that is whole: another data set's would give other values in silence."""
    for content in (b"junk", b""):
        (dataset / name).write_bytes(content)
        for reader in READERS[name]:
            with pytest.raises(ManifestError, match=f"{dataset / name}: expected .* bytes with CRC-32C .*; found"):
                reader(dataset)


def at_once(call, pipe):
    """What a call returns that does not wait for whoever writes to a pipe."""
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(call)
        try:
            return found.result(timeout=30)
        finally:
            with contextlib.suppress(OSError):  # nobody waits
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


NO_FILE = "expected a file; found a pipe or a device"


def test_a_pipe_in_place_of_a_shard_is_not_waited_for(dataset):
    shard = first_shard(dataset)
    size = shard.stat().st_size
    shard.unlink()
    os.mkfifo(shard)
    assert at_once(lambda: problems(dataset), shard) == [f"{shard}: expected {size} bytes; found 0 bytes"]
    with pytest.raises(ShardError, match=f"{shard}: expected a shard of {size} bytes; found 0"):
        at_once(lambda: list(numpy_loader.Loader(dataset, "train", batch_size=8)), shard)


def test_a_pipe_in_place_of_a_manifest_is_not_waited_for(dataset):
    manifest = dataset / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(OSError, match=NO_FILE):
        at_once(lambda: verify(str(dataset)), manifest)
    with pytest.raises(ManifestError, match=f"{manifest}: {NO_FILE}"):
        at_once(lambda: numpy_loader.Loader(dataset, "train", batch_size=8), manifest)


def test_a_manifest_that_cannot_be_read_is_not_said_to_be_missing(dataset):
    manifest = dataset / "manifest.json"
    manifest.unlink()
    manifest.symlink_to("manifest.json")
    with pytest.raises(OSError, match=f"Too many levels of symbolic links: .*{manifest}"):
        verify(str(dataset))


def test_a_device_in_place_of_a_file_beside_the_shards_is_not_read(dataset):
    path = dataset / "statistics.pb"
    path.unlink()
    path.symlink_to("/dev/null")
    (problem,) = problems(dataset)
    assert problem.startswith(f"{path}: expected")
    assert problem.endswith(f"found {NO_FILE}")


def test_remains_of_a_build(dataset):
    (dataset / "_build").mkdir()
    assert len(problems(dataset)) == 1


def test_all_that_is_wrong_is_listed(dataset):
    for shard in read_manifest(str(dataset)).splits["train"]:
        (dataset / shard.file).unlink()
    (dataset / "statistics.pb").unlink()
    assert len(problems(dataset)) == len(read_manifest(str(dataset)).splits["train"]) + 1


def test_no_manifest(dataset):
    (dataset / "manifest.json").unlink()
    with pytest.raises(ManifestError, match="expected a finished data set with a manifest"):
        verify(str(dataset))


def test_a_later_format_is_refused(dataset):
    change_manifest(dataset, lambda value: value.update(format_version=4))
    with pytest.raises(ManifestError, match="reads format versions 1, 2, 3; found 4"):
        verify(str(dataset))


VARIABLE = (
    FeatureSpec(name="n", dtype="int64", shape=()),
    FeatureSpec(name="s", dtype="string", shape=(2,)),
    FeatureSpec(name="v", dtype="float32", shape=(None, 3)),
)


@pytest.fixture
def variable(tmp_path):
    """Shards of 10, 0 and 7 rows that differ in size; two records of three rows a chunk."""
    output, shards = Output(str(tmp_path / "out")), []
    for number, rows in enumerate([10, 0, 7]):
        lengths = np.arange(rows) % 4
        columns = {
            "n": np.arange(rows),
            "s": np.array([[b"a" * n, b"b"] for n in range(rows)], "S").reshape(-1, 2),
            "v": Ragged(values=np.ones((int(lengths.sum()), 3), np.float32), lengths=lengths),
        }
        batches = []
        for start in range(0, rows, 3):
            count = min(3, rows - start)
            part = {name: column[start : start + count] for name, column in columns.items()}
            batches.append((count, encode_variable_records(VARIABLE, part, rows=count, rows_per_record=3)))
        file = f"train/train-{number:05d}-of-00003.tfrecord"
        shards.append(_write_shard(file, output, batches.__iter__, chunk_records=2))
    manifest = Manifest(
        features=VARIABLE,
        splits={"train": tuple(shards)},
        files=(),
        rows_per_record=3,
        record_bytes=None,
        chunk_records=2,
        seed=0,
        source_fingerprint="",
        transform=None,
        config={},
        versions={},
    )
    (tmp_path / "out" / "manifest.json").write_text(manifest.dumps())
    shutil.rmtree(tmp_path / "out" / "_build")
    return tmp_path / "out"


def test_rows_that_differ_in_size_verify(variable):
    found = verify(str(variable))
    assert found.problems == ()
    assert (found.rows, found.shards) == (17, 3)


def test_rows_that_differ_in_size_load(variable):
    batches = list(loaders.load(variable, "train", batch_size=4))
    assert sorted(int(n) for batch in batches for n in batch["n"]) == sorted([*range(10), *range(7)])
    for batch in batches:
        assert batch["v_length"].numpy().tolist() == (batch["n"].numpy() % 4).tolist()
        assert [len(s) for s in batch["s"].numpy()[:, 0]] == batch["n"].numpy().tolist()


def test_offsets_are_where_chunks_begin(variable):
    manifest = read_manifest(str(variable))
    for shard in manifest.splits["train"]:
        data = (variable / shard.file).read_bytes()
        starts, at = [], 0
        while at < len(data):
            starts.append(at)
            at += int.from_bytes(data[at : at + 8], "little") + 16
        assert shard.offsets == tuple(starts[::2])


@pytest.mark.parametrize("position", [0, 9, 12, 40, 100, -5, -1])
def test_a_flipped_bit_where_rows_differ_in_size(variable, position):
    shard = first_shard(variable)
    data = bytearray(shard.read_bytes())
    data[position] ^= 4
    shard.write_bytes(data)
    (problem,) = problems(variable)
    assert problem.startswith(str(shard))


def test_offsets_of_a_wrong_place(variable):
    def move(value):
        value["splits"]["train"]["shards"][0]["offsets"][1] += 1

    change_manifest(variable, move)
    (problem,) = problems(variable)
    assert "chunks at the offsets" in problem


def test_a_manifest_that_counts_other_rows_of_varying_size(variable):
    def fewer(value):
        value["splits"]["train"]["rows"] -= 1
        value["splits"]["train"]["shards"][0]["rows"] -= 1

    change_manifest(variable, fewer)
    (problem,) = problems(variable)
    assert "record 3 to hold" not in problem  # a row fewer is a record fewer
    assert "more bytes" in problem


def test_a_shard_that_ends_early(variable):
    shard = first_shard(variable)
    size = len(shard.read_bytes())
    shard.write_bytes(shard.read_bytes()[:-3])
    assert problems(variable) == [f"{shard}: expected {size} bytes; found {size - 3} bytes"]


def allow_small_files_only(out, shard):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def block_the_temporary_file(out, shard):
    out.mkdir()
    (out / "_build").write_bytes(b"")
    return (out / "_build").unlink


def block_the_name(out, shard):
    (shard / "in the way").mkdir(parents=True)
    return lambda: shutil.rmtree(shard)


@pytest.mark.parametrize(
    ("block", "code"),
    [(allow_small_files_only, errno.EFBIG), (block_the_temporary_file, errno.ENOTDIR), (block_the_name, errno.EISDIR)],
)
def test_a_shard_that_cannot_be_written_is_named(block, code, tmp_path):
    """By an error that is none of npyflow's own, so that a cluster tries again."""
    name, out = "train/train-00000-of-00001.tfrecord", tmp_path / "out"

    def write():
        return _write_shard(name, Output(str(out)), lambda: iter([(1, [b"x" * 100_000])]), chunk_records=None)

    unblock = block(out, out / name)
    try:
        with pytest.raises(OSError, match=f"{name}'$") as found:
            write()
    finally:
        unblock()
    assert (found.value.errno, found.value.filename, found.value.filename2) == (code, str(out / name), None)
    assert not isinstance(found.value, NpyflowError)
    text = "".join(traceback.format_exception(found.value))
    assert str(failure(text, "http://f:1")).endswith(f"{name}'. The same command goes on where it stopped")
    assert not [path for path in out.rglob("*") if path.is_file()]
    assert write().bytes == 100_000
