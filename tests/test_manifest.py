import json

import numpy as np
import pytest

from loaders import chunks
from loaders.manifest import Manifest, ManifestError, Shard
from loaders.spec import FeatureSpec


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
        ({"format_version": 2}, "out/manifest.json: .* reads format version 1; found 2"),
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


def test_window_rows():
    small, large = (FeatureSpec(name=n, dtype="float64", shape=(size,)) for n, size in (("a", 4), ("b", 1 << 23)))

    assert chunks.window_rows([small]) == 1 << 20
    assert chunks.window_rows([small, large]) == 1
