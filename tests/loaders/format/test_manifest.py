import dataclasses
import json

import numpy as np
import pytest

from loaders.format.manifest import Manifest, ManifestError, Shard
from loaders.format.spec import FeatureSpec
from loaders.order import chunks


def manifest(rows=(7, 0, 25), *, rows_per_record=4, record_bytes=100):
    shards = tuple(
        Shard(file=f"train/{n}.tfrecord", rows=count, bytes=count, crc32c="0a0b0c0d") for n, count in enumerate(rows)
    )
    return Manifest(
        features=(FeatureSpec(name="x", dtype="float32", shape=(3,)),),
        splits={"train": shards, "test": ()},
        files=(),
        rows_per_record=rows_per_record,
        record_bytes=record_bytes,
        seed=7,
        source_fingerprint="ab",
        transform="transform",
        config={"seed": 7, "features": {"x": {"impute": "none"}}},
        versions={"npyflow": "0"},
    )


def test_round_trip():
    value = manifest()

    assert Manifest.loads(value.dumps()) == value


def test_rows_of_a_split():
    assert manifest().rows("train") == 32
    assert manifest().rows("test") == 0
    assert json.loads(manifest().dumps())["splits"]["train"]["rows"] == 32
    with pytest.raises(ManifestError, match="no split 'valid'; the splits are train, test"):
        manifest().rows("valid")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "out/manifest.json: expected a manifest"),
        ({"format_version": 3}, "out/manifest.json: .* reads format versions 1, 2; found 3"),
        ({"features": [{"name": "x"}]}, "out/manifest.json: a field is missing or wrong: 'dtype'"),
        ({"splits": 3}, "out/manifest.json: a field is missing or wrong"),
        ({"features": 3}, "out/manifest.json: a field is missing or wrong"),
    ],
)
def test_what_is_not_a_manifest_is_refused(change, message):
    text = json.dumps(json.loads(manifest().dumps()) | change)

    with pytest.raises(ManifestError, match=message):
        Manifest.loads(text, path="out/manifest.json")


def test_text_that_is_not_json_is_refused():
    with pytest.raises(ManifestError, match=r"out/manifest.json: expected a JSON manifest"):
        Manifest.loads(manifest().dumps()[:-20], path="out/manifest.json")
    with pytest.raises(ManifestError, match="expected a manifest"):
        Manifest.loads("[]")


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
    first = Shard(file="train/0.tfrecord", rows=9, bytes=72, crc32c="00", offsets=(0, 64))
    second = Shard(file="train/1.tfrecord", rows=8, bytes=64, crc32c="00", offsets=(0,))
    empty = Shard(file="train/2.tfrecord", rows=0, bytes=0, crc32c="00", offsets=())
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
        variable(Shard(file="train/0.tfrecord", rows=9, bytes=72, crc32c="00", offsets=offsets))


def test_an_index_belongs_to_rows_that_differ():
    with pytest.raises(ValueError, match="expected only chunk_records, as rows of x differ"):
        variable(record_bytes=8)
    with pytest.raises(ValueError, match="expected only chunk_records"):
        variable(chunk_records=0)
    with pytest.raises(ValueError, match="expected only record_bytes, as all rows have one size"):
        variable(features=manifest().features)
    shard = Shard(file="train/0.tfrecord", rows=9, bytes=72, crc32c="00", offsets=(0,))
    with pytest.raises(ValueError, match="expected no offsets"):
        dataclasses.replace(manifest(), splits={"train": (shard,)})
    with pytest.raises(
        ManifestError, match=r"out/manifest\.json: a field is missing or wrong: expected only record_bytes"
    ):
        Manifest.loads(json.dumps(json.loads(manifest().dumps()) | {"record_bytes": None}), path="out/manifest.json")


def test_chunks_of_an_index():
    found = chunks.Chunks.of(variable(), "train")

    assert (found.records, found.size) == (2, 3)
    assert found.begins.tolist() == [0, 64, 0]
    assert found.ends.tolist() == [64, 72, 64]
    shard, first, records = found.locate(np.arange(3))
    assert (shard.tolist(), first.tolist(), records.tolist()) == ([0, 0, 1], [0, 2, 0], [2, 1, 2])


def test_a_manifest_of_version_1():
    old = json.loads(manifest().dumps()) | {"format_version": 1}
    for key in ("chunk_records", "transformed", "dropped", "skipped"):
        del old[key]
    for feature in old["features"]:
        del feature["unit"]

    assert Manifest.loads(json.dumps(old)) == manifest()
