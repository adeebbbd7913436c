"""Every kind of damage to a shard is one line with the shard, and the record where one is known, from all who read."""

import importlib
import re
import subprocess
import sys
import uuid

import numpy as np
import pytest
import tensorflow as tf
from fsspec.implementations.memory import MemoryFileSystem

import loaders
from loaders import FeatureSpec
from loaders import numpy as numpy_loader
from loaders.format.record_layout import FOOTER_BYTES, HEADER_BYTES, frame
from loaders.storage import store
from loaders.storage.store import ShardError
from tests.support import ROOT, shards

ROWS_PER_RECORD = 4
SIZES = (8, 12, 7)
NUMBER = 1
"""The number of the shard that is damaged, which has three records."""


def write(root, *, vary):
    """Shards of two, three and two records, whose rows differ in size if they `vary`."""
    features = [
        FeatureSpec(name="flag", dtype="bool", shape=()),
        FeatureSpec(name="n", dtype="int64", shape=()),
        *(
            [FeatureSpec(name="on", dtype="bool", shape=(None,)), FeatureSpec(name="s", dtype="string", shape=())]
            * vary
        ),
        FeatureSpec(name="x", dtype="float32", shape=(2,)),
    ]
    parts = []
    for number, count in enumerate(SIZES):
        n = np.arange(count) - 10**6 * (number + 1)
        rows = {"n": n, "flag": n % 2 == 0, "x": np.stack([n, n], axis=1).astype(np.float32)}
        if vary:
            rows["s"] = np.array([b"a" * (row + number) for row in range(count)], dtype=object)
            rows["on"] = [np.ones(row + 1, np.bool_) for row in range(count)]
        parts.append(rows)
    chunks = 1 if vary else None
    return shards.write(
        root, {"train": parts}, rows_per_record=ROWS_PER_RECORD, features=features, chunk_records=chunks
    )


def flip(at, *, record=1):
    """Changes a byte of a record."""

    def change(records, _):
        changed = bytearray(records[record])
        changed[at] ^= 1
        return b"".join([*records[:record], bytes(changed), *records[record + 1 :]])

    return change


def cut(end):
    """Leaves the first record and a piece of the second one."""
    return lambda records, _: records[0] + records[1][:end]


def rewrite(old, new):
    """Changes the data of the second record, whose checksums are then right."""

    def change(records, _):
        data = records[1][HEADER_BYTES:-FOOTER_BYTES]
        assert data.count(old) == 1
        return b"".join([records[0], frame(data.replace(old, new)), records[2]])

    return change


OTHER_SIZE = r"expected a shard of \d+ bytes; found \d+"
CHECKSUM = r"record 1: expected checksum [0-9a-f]{8}; found [0-9a-f]{8}"
HEADERS = r"record 1: expected (the header of a record|a record of 4 rows in \d+ bytes, laid out .*); found other bytes"

DAMAGES = {
    "a byte of the length": (flip(0), HEADERS),
    "a high byte of the length": (flip(7), HEADERS),
    "a byte of the length's checksum": (flip(9), HEADERS),
    "the first byte of the data": (flip(HEADER_BYTES), "record 1: expected .*; found .*"),
    "a value": (flip(-FOOTER_BYTES - 3), CHECKSUM),
    "the data's checksum": (flip(-1), CHECKSUM),
    "the first record": (flip(-1, record=0), CHECKSUM.replace("1", "0", 1)),
    "the last record": (flip(-1, record=2), CHECKSUM.replace("1", "2", 1)),
    "cut off before a record": (cut(0), OTHER_SIZE),
    "cut off in a header": (cut(7), OTHER_SIZE),
    "cut off after a header": (cut(HEADER_BYTES), OTHER_SIZE),
    "cut off in the data": (cut(HEADER_BYTES + 9), OTHER_SIZE),
    "cut off before a checksum": (cut(-FOOTER_BYTES), OTHER_SIZE),
    "cut off by a byte": (lambda records, _: b"".join(records)[:-1], OTHER_SIZE),
    "more bytes": (lambda records, _: b"".join(records) + b"garbage", OTHER_SIZE),
    "another record": (lambda records, _: b"".join([*records, records[0]]), OTHER_SIZE),
    "another shard": (lambda _, other: b"".join(other), OTHER_SIZE),
    "empty": (lambda *_: b"", OTHER_SIZE),
    "zeros": (lambda records, _: bytes(len(b"".join(records))), HEADERS.replace("1", "0", 1)),
    "missing": (lambda *_: None, r"expected a shard of \d+ bytes; found .+"),
    # Examples that are not what the manifest says, their checksums right.
    "another tag": (rewrite(b"\x0a\x04flag", b"\x12\x04flag"), "record 1: expected .*; found .*"),
    "another name": (rewrite(b"\x0a\x04flag", b"\x0a\x04flog"), "record 1: expected .*; found .*"),
    "a length beyond the end": (rewrite(b"\x0a\x04flag", b"\x0a\x7fflag"), "record 1: expected .*; found .*"),
    "a bool of 2": (
        rewrite(b"\x0a\x04\x01\x00\x01\x00", b"\x0a\x04\x01\x00\x02\x00"),
        "record 1: expected bools of 0 or 1 in feature flag; found other bytes",
    ),
}


@pytest.fixture(scope="module", params=[False, True], ids=["one size", "sizes that vary"])
def whole(request, tmp_path_factory):
    """A data set, and the frames of two of its shards: that which is damaged, and another one."""
    root = tmp_path_factory.mktemp("whole")
    write(root, vary=request.param)
    return root, [frames_of(root / f"train/train-0000{number}.tfrecord") for number in (NUMBER, 0)]


def frames_of(path):
    content, frames, at = path.read_bytes(), [], 0
    while at < len(content):
        size = HEADER_BYTES + int.from_bytes(content[at : at + 8], "little") + FOOTER_BYTES
        frames.append(content[at : at + size])
        at += size
    return frames


RIGHT_CHECKSUMS = ("another tag", "another name", "a length beyond the end", "a bool of 2")

MEMORY = MemoryFileSystem()
OPTIONS = {"batch_size": 5, "shuffle": False}
OF_EACH_CHECK = ("a value", "more bytes", "missing", "another tag")
"""For readers that take longer to make: the reader below them is the same."""


def damage(whole, kind, *places):
    """Writes a data set with a damaged shard to several places, a local one first, and returns what is to be said."""
    (source, (records, other)), (change, message) = whole, DAMAGES[kind]
    for path in source.rglob("*.*"):
        damaged = path.name == f"train-0000{NUMBER}.tfrecord"
        content = change(records, other) if damaged else path.read_bytes()
        name = path.relative_to(source)
        for place in places:
            if content is not None and "://" in str(place):
                MEMORY.pipe_file(f"{place}/{name.as_posix()}", content)
            elif content is not None:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(content)
    if kind in RIGHT_CHECKSUMS:
        shards.relist(places[0])
        for place in places[1:]:
            MEMORY.pipe_file(f"{place}/manifest.json", (places[0] / "manifest.json").read_bytes())
    return message


def read(root, **options):
    return list(numpy_loader.Loader(root, "train", **OPTIONS | options))


def read_rows(root):
    return loaders.open(root)["train"][:]


def error_of(reader, root, **options):
    """What is wrong, without the path, in one line."""
    with pytest.raises(ShardError) as caught:
        reader(root, **options)
    path = f"{root}/train/train-0000{NUMBER}.tfrecord: "
    text = str(caught.value)
    assert text.startswith(path)
    assert "\n" not in text
    return text.removeprefix(path)


@pytest.mark.parametrize("kind", DAMAGES)
def test_all_that_read_say_the_same_of_every_damage(whole, tmp_path, monkeypatch, kind):
    root, remote = tmp_path / "out", f"memory://{uuid.uuid4().hex}/out"
    message = damage(whole, kind, root, remote)
    found = {
        "in memory": error_of(read, root, in_memory=True),
        "cached": error_of(read, root, cache_dir=tmp_path / "cache"),
        "rows": error_of(read_rows, root),
        "held": error_of(read, root),
        "remote": error_of(read, remote),
        "remote, rows": error_of(read_rows, remote),
        "remote, in memory": error_of(read, remote, in_memory=True),
        "remote, cached": error_of(read, remote, cache_dir=tmp_path / "of remote"),
    }
    monkeypatch.setattr(store, "SMALL_BYTES", -1)
    found["mapped"] = error_of(read, root)
    if kind == "missing":  # in a file system's own words
        found = {reader: text.partition("; found ")[0] + "; found it" for reader, text in found.items()}
    assert len(set(found.values())) == 1, found
    assert re.fullmatch(message, found["mapped"])


def error_of_dataset(root, **options):
    """What is wrong as TensorFlow says it, with where it was in its graph; no lines of a traceback."""
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(loaders.load(root, "train", **OPTIONS | options))
    first, *more = caught.value.message.splitlines()
    assert len(more) <= 1
    return first.partition(f"[{root}/train/train-0000{NUMBER}.tfrecord: ")[2].removesuffix("]").replace("\\'", "'")


@pytest.mark.parametrize("kind", OF_EACH_CHECK)
def test_tensorflow_says_it_in_one_line_too(whole, tmp_path, kind):
    damage(whole, kind, tmp_path / "out")
    expected = error_of(read, tmp_path / "out")
    assert error_of_dataset(tmp_path / "out") == expected
    loader = loaders.Loader(tmp_path / "out", "train", **OPTIONS)
    for _ in range(2):  # it can be asked again
        assert error_of(lambda _: list(loader), tmp_path / "out") == expected
    with pytest.raises(ShardError, match=re.escape(expected)):
        loaders.load(tmp_path / "out", "train", in_memory=True, **OPTIONS)


@pytest.mark.slow  # they take seconds to import
@pytest.mark.parametrize("kind", OF_EACH_CHECK)
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_pytorch_and_jax_say_it_too(whole, tmp_path, kind, name):
    pytest.importorskip(name)
    loader = importlib.import_module(f"loaders.{name}").Loader
    damage(whole, kind, tmp_path / "out")
    # What cannot be cut into batches of tensors and JAX's arrays is not what is tested.
    options = OPTIONS | {"features": ["flag", "x"]}
    assert error_of(lambda root: list(loader(root, "train", **options)), tmp_path / "out") == error_of(
        read, tmp_path / "out"
    )


@pytest.mark.parametrize("value", [b"\x00" * 10, b"\x80" * 10, b"\x80" * 9 + b"\x02"])
def test_an_integer_of_another_length_is_named(tmp_path, value):
    """An `int64_list` of a record of one row: ten short varints have as many bytes as a long one."""
    rows = {"n": np.arange(-3, 0)}
    manifest = shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=1, features=shards.specs(rows))
    path = tmp_path / "out" / manifest.splits["train"][0].file
    records = frames_of(path)
    data = records[1][HEADER_BYTES:-FOOTER_BYTES]
    path.write_bytes(records[0] + frame(data[:-10] + value) + records[2])
    shards.relist(tmp_path / "out")
    with pytest.raises(ShardError, match="record 1: expected varints of ten bytes in feature n; found other bytes"):
        read(tmp_path / "out")


ENDS = """
import sys
import loaders
for _ in range(4):
    try:
        list(loaders.Loader(sys.argv[1], "train", batch_size=1))
    except loaders.ShardError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_program_that_met_damage_ends(tmp_path):
    """An error that was raised holds the iterator by its traceback; a thread of it must not be the one to drop it."""
    rows = {"x": np.arange(4000.0)}
    manifest = shards.write(tmp_path / "out", {"train": [rows] * 8}, rows_per_record=4, features=shards.specs(rows))
    for shard in manifest.splits["train"]:
        path = tmp_path / "out" / shard.file
        path.write_bytes(path.read_bytes()[:-1])
    program = [sys.executable, "-c", ENDS, str(tmp_path / "out")]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.count("expected a shard of ") == 4
