import contextlib
import dataclasses
import functools
import json
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from loaders.format.manifest import FORMAT_VERSION, Manifest, ManifestError, Shard
from loaders.format.record_layout import record_layout
from loaders.format.spec import FeatureSpec
from loaders.order import chunks
from tests.support.manifests import changed

FEATURES = (FeatureSpec(name="x", dtype="float32", shape=(3,)),)


def bytes_of(rows, rows_per_record):
    """The bytes of a shard of so many rows."""
    counts = [rows_per_record] * (rows // rows_per_record) + [rows % rows_per_record] * (rows % rows_per_record > 0)
    layouts = [record_layout(FEATURES, rows=count, rows_per_record=rows_per_record) for count in counts]
    return sum(layout.frame_bytes for layout in layouts)


def manifest(rows=(7, 0, 25), *, rows_per_record=4, record_bytes=None):
    shards = tuple(
        Shard(file=f"train/{n}.tfrecord", rows=count, bytes=bytes_of(count, rows_per_record), crc32c="0a0b0c0d")
        for n, count in enumerate(rows)
    )
    return Manifest(
        features=FEATURES,
        splits={"train": shards, "test": ()},
        files=(),
        rows_per_record=rows_per_record,
        record_bytes=record_bytes or bytes_of(rows_per_record, rows_per_record),
        seed=7,
        source_fingerprint="ab",
        transform="transform",
        config={"seed": 7, "features": {"x": {"impute": "none"}}},
        versions={"npyflow": "0"},
    )


def test_round_trip():
    value = manifest()

    assert Manifest.loads(value.dumps()) == value


def test_a_million_shards_are_held_without_a_dictionary_each():
    shard = dataclasses.replace(manifest().shards("train")[0], offsets=(0, 5))
    assert not hasattr(shard, "__dict__")
    assert pickle.loads(pickle.dumps(shard)) == shard


def test_rows_of_a_split():
    assert manifest().rows("train") == 32
    assert manifest().rows("test") == 0
    assert json.loads(manifest().dumps())["splits"]["train"]["rows"] == 32
    with pytest.raises(ManifestError, match="no split 'valid'; the splits are train, test"):
        manifest().rows("valid")


def put(*keys_and_value):
    """A change of one value: the keys that lead to it, then the value, or a function of what is there."""
    *keys, last, value = keys_and_value

    def change(document):
        parent = functools.reduce(lambda inner, key: inner[key], keys, document)
        parent[last] = value(parent[last]) if callable(value) else value

    return change


SHARDS = ("splits", "train", "shards")
FIRST = (*SHARDS, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("format", "other"), "expected a manifest"),
        (("format_version", 4), "reads format versions 1, 2, 3; found 4"),
        (("format_version", [3]), "reads format versions"),
        (("features", [{"name": "x"}]), "a field is missing or wrong: .*`dtype`"),
        (("features", 0, "shape", [0]), "every axis of a row has at least 1 element"),
        (("features", 0, "shape", [-3]), "every axis of a row has at least 1 element"),
        (("features", 0, "dtype", "float31"), "x: dtype is one of"),
        (("splits", 3), "Expected `object`, got `int`"),
        (("features", 3), "Expected `array`, got `int`"),
        (("more", 1), "unknown field `more`"),
        (("seed", "7"), "Expected `int`, got `str` - at `\\$.seed`"),
        (("rows_per_record", 0), "Expected `int` >= 1"),
        (("rows_per_record", 10**30), "rows_per_record"),
        (("rows_per_record", True), "Expected `int`, got `bool`"),
        (("record_bytes", 7), "record_bytes: expected .*; found 7"),
        (("record_bytes", None), "expected only record_bytes, as all rows have one size"),
        (("transform", "../other"), "transform"),
        ((*FIRST, "rows", -1), "Expected `int` >= 0"),
        ((*FIRST, "rows", 1.5), "Expected `int`, got `float`"),
        ((*FIRST, "rows", 6), "split train: expected 31 rows, as its shards have together; found 32"),
        ((*FIRST, "bytes", 473889511571456), "train/0.tfrecord: expected .* bytes for 7 rows; found 473889511571456"),
        ((*FIRST, "crc32c", "zz"), "crc32c"),
        ((*FIRST, "file", "/etc/passwd"), "split train: expected shards in its own directory; found '/etc/passwd'"),
        ((*FIRST, "file", "train/../../x"), "expected shards in its own directory"),
        ((*FIRST, "file", "train/.."), "expected shards in its own directory"),
        ((*FIRST, "file", "train/"), "expected shards in its own directory"),
        ((*FIRST, "file", "train/1.tfrecord"), "expected each file once; found train/1.tfrecord twice"),
        (("splits", lambda splits: {"../train": splits["train"]}), "split ../train: expected a name of a directory"),
        (("splits", lambda splits: {"..": splits["test"]}), "split ..: expected a name of a directory"),
        (("splits", lambda splits: {"transform": splits["test"]}), "split transform: expected a name of a directory"),
        (("files", [{"file": "/etc/passwd", "bytes": 1, "crc32c": "00000000"}]), "files: .*; found '/etc/passwd'"),
        (("files", [{"file": "transform/../x", "bytes": 1, "crc32c": "00000000"}]), "files: expected"),
        (("files", [{"file": "schema.pbtxt", "bytes": 1, "crc32c": "00000000"}] * 2), "found schema.pbtxt twice"),
        (("skipped", [3]), "Expected `object`, got `int`"),
        ((*FIRST, "rows", 2**60), "rows"),
        (("versions", {"npyflow": 3}), "Expected `str`, got `int`"),
    ],
)
def test_what_is_not_a_manifest_is_refused(change, message):
    with pytest.raises(ManifestError, match=f"^out/manifest.json: .*{message}"):
        Manifest.loads(changed(manifest().dumps(), put(*change)), path="out/manifest.json")


def test_text_that_is_not_json_is_refused():
    with pytest.raises(ManifestError, match=r"out/manifest.json: expected a JSON manifest"):
        Manifest.loads(manifest().dumps()[:-20], path="out/manifest.json")
    with pytest.raises(ManifestError, match="expected a JSON manifest"):
        Manifest.loads(b"\xff")
    with pytest.raises(ManifestError, match="expected a manifest"):
        Manifest.loads("[]")


def test_text_that_is_nested_too_deep_is_refused():
    with pytest.raises(ManifestError, match=r"expected a JSON manifest|a field is missing"):
        Manifest.loads(
            changed(manifest().dumps(), put("config", {"a": 1})).replace(
                '"a": 1', '"a": ' + "[" * 100_000 + "]" * 100_000
            )
        )


@hypothesis.given(st.data())
def test_a_changed_byte_is_found(data):
    """Wherever it is: a digit of a size, a letter of a name, white space, the digest."""
    text = manifest().dumps().encode()
    at = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != text[at]))

    with pytest.raises(ManifestError):
        Manifest.loads(text[:at] + bytes([byte]) + text[at + 1 :])


def test_what_is_cut_off_or_added_is_found():
    text = manifest().dumps()
    for other in (text + "\n", text[:-1], text.replace("\n", "\r\n"), text.replace(' "sha256"', '"sha256"')):
        with pytest.raises(ManifestError):
            Manifest.loads(other)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@hypothesis.given(st.data())
def test_whoever_wrote_it_a_wrong_value_is_one_error(data):
    """A manifest whose digest fits, as one who means harm writes it: it is read, or `ManifestError` says why not."""
    text = data.draw(st.sampled_from([manifest().dumps(), variable().dumps()]))
    value, keys = json.loads(text), []
    while isinstance(value, (dict, list)) and value and (not keys or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        keys, value = [*keys, key], value[key]
    hypothesis.assume(keys != ["sha256"])
    with contextlib.suppress(ManifestError):
        Manifest.loads(changed(text, put(*keys, data.draw(VALUES))))


def test_chunks_are_runs_of_records_of_one_shard():
    # Two records a chunk: shards of 2, 0 and 7 records have 1, 0 and 4 chunks.
    found = chunks.Chunks.of(manifest(record_bytes=chunks.CHUNK_BYTES // 2), "train")

    assert (found.records, found.size) == (2, 5)
    shard, first, records = found.locate(np.arange(5))
    assert shard.tolist() == [0, 2, 2, 2, 2]
    assert first.tolist() == [0, 0, 2, 4, 6]
    assert records.tolist() == [2, 2, 2, 2, 1]


def test_a_large_record_is_a_chunk():
    assert chunks.Chunks.of(manifest(record_bytes=chunks.CHUNK_BYTES * 3), "train").records == 1
    assert chunks.Chunks.of(manifest(), "test").size == 0


def test_window_rows(monkeypatch):
    # A row of 12 bytes; and, where rows differ in size, 8 bytes in the mean.
    monkeypatch.setattr(chunks, "WINDOW_BYTES", 24)
    assert chunks.window_rows(manifest(), "train") == 2
    monkeypatch.setattr(chunks, "WINDOW_BYTES", 11)
    assert chunks.window_rows(manifest(), "train") == 1
    monkeypatch.setattr(chunks, "WINDOW_BYTES", 24)
    assert chunks.window_rows(variable(), "train") == 3
    assert chunks.window_rows(variable(), "test") == 24


def variable(*shards, **changes):
    """Rows of 8 bytes in the mean: two records of four rows a chunk."""
    first = Shard(file="train/0.tfrecord", rows=9, bytes=72, crc32c="00000000", offsets=(0, 64))
    second = Shard(file="train/1.tfrecord", rows=8, bytes=64, crc32c="00000000", offsets=(0,))
    empty = Shard(file="train/2.tfrecord", rows=0, bytes=0, crc32c="00000000", offsets=())
    splits = {"train": shards or (first, second, empty), "test": ()}
    features = (FeatureSpec(name="x", dtype="float32", shape=(None, 3)),)
    fields = {"features": features, "splits": splits, "record_bytes": None, "chunk_records": 2} | changes
    return dataclasses.replace(manifest(), **fields)


def test_an_index_comes_back():
    value = variable()

    assert Manifest.loads(value.dumps()) == value
    assert "offsets" not in json.loads(manifest().dumps())["splits"]["train"]["shards"][0]


def test_all_fields_come_back():
    value = dataclasses.replace(
        manifest(),
        transformed=(FeatureSpec(name="x", dtype="float32", shape=(3,), unit="s"),),
        dropped=5,
        skipped=({"path": "a.npy", "expected": "an array", "found": "none", "feature": None},),
    )

    assert Manifest.loads(value.dumps()) == value


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (None, "expected 2 offsets .* found no offsets"),
        ((0,), "expected 2 offsets .* of 1 chunks"),
        ((8, 64), r"expected 2 offsets that rise from 0 to below 72; found offsets \(8, 64\)"),
        ((0, 72), "expected 2 offsets"),
        ((0, 0), "expected 2 offsets"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(offsets, message):
    with pytest.raises(ValueError, match=message):
        variable(Shard(file="train/0.tfrecord", rows=9, bytes=72, crc32c="00000000", offsets=offsets))


def test_an_index_belongs_to_rows_that_differ():
    with pytest.raises(ValueError, match="expected only chunk_records, as rows of x differ"):
        variable(record_bytes=8)
    with pytest.raises(ValueError, match="expected only chunk_records"):
        variable(chunk_records=0)
    with pytest.raises(ValueError, match="expected only record_bytes, as all rows have one size"):
        variable(features=manifest().features)
    shard = Shard(file="train/0.tfrecord", rows=9, bytes=72, crc32c="00000000", offsets=(0,))
    with pytest.raises(ValueError, match="expected no offsets"):
        dataclasses.replace(manifest(), splits={"train": (shard,)})


def test_chunks_of_an_index():
    found = chunks.Chunks.of(variable(), "train")

    assert (found.records, found.size) == (2, 3)
    assert found.begins.tolist() == [0, 64, 0]
    assert found.ends.tolist() == [64, 72, 64]
    shard, first, records = found.locate(np.arange(3))
    assert (shard.tolist(), first.tolist(), records.tolist()) == ([0, 0, 1], [0, 2, 0], [2, 1, 2])


@pytest.mark.parametrize("version", [1, 2])
def test_a_manifest_of_an_earlier_version(version):
    """They have no digest of themselves; those of version 1 lack what version 2 added."""
    old = json.loads(manifest().dumps()) | {"format_version": version}
    del old["sha256"]
    if version == 1:
        for key in ("chunk_records", "transformed", "dropped", "skipped", "sources", "transform_from"):
            del old[key]
        for feature in old["features"]:
            del feature["unit"]

    assert FORMAT_VERSION == 3
    assert Manifest.loads(json.dumps(old)) == manifest()
