"""What a benchmark of a loader measures: the loader itself, all of its time, and what would change it."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from loaders.diagnostics import bench, timing
from loaders.format.manifest import ManifestError
from loaders.numpy import Loader
from loaders.storage.files import read_manifest
from tests.support import ragged, raw_features, shards
from tests.support.batches import assert_same_batch
from tests.support.numbered import small_chunks, write_numbered

NUMPY_STAGES = ["read", "checksum", "decode", "shuffle and gather", "arrange"]
TF_STAGES = ["read", "parse", "shuffle", "batch"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    small_chunks(monkeypatch, chunk_bytes=2000, window_bytes=4000)
    write_numbered(tmp_path / "out", [400, 0, 601], rows_per_record=4)
    return tmp_path / "out"


@pytest.fixture
def ragged_root(tmp_path):
    ragged.write(tmp_path / "ragged", [ragged.lengths_of(53)])
    return tmp_path / "ragged"


def check(found, stages):
    assert [stage.name for stage in found.stages] == stages
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)
    total = sum(stage.seconds_per_row for stage in found.stages)
    for stage in found.stages:
        assert stage.seconds_per_row == pytest.approx(stage.share * total)
        assert stage.share >= 0
    assert found.rows_per_second == pytest.approx(found.rows / found.seconds)
    assert found.batch_seconds == pytest.approx(found.batch_size * found.seconds / found.rows)
    manifest = read_manifest(found.root)
    row_bytes = sum(shard.bytes for shard in manifest.splits[found.split]) / manifest.rows(found.split)
    assert found.bytes_per_second / found.rows_per_second == pytest.approx(row_bytes)
    assert found.peak_bytes >= found.base_bytes > 0
    assert found.first_batch_seconds > 0
    factors = [advice.factor for advice in found.advice]
    assert factors == sorted(factors, reverse=True)
    assert all(factor >= bench.WORTHWHILE for factor in factors)
    assert json.loads(json.dumps(found.to_json()))["batch_seconds"] == found.batch_seconds


@pytest.mark.parametrize(("loader", "stages"), [("numpy", NUMPY_STAGES), ("tf", TF_STAGES)])
def test_all_time_is_in_the_stages(root, loader, stages):
    found = bench.measure(root, loader=loader, batch_size=16, seconds=0.05)

    check(found, stages)
    assert found.step is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loader", "stages"),
    [("numpy", ["read", "checksum and decode", "shuffle and gather", "arrange"]), ("tf", TF_STAGES)],
)
def test_rows_that_differ_in_size(ragged_root, loader, stages):
    check(bench.measure(ragged_root, loader=loader, batch_size=5, seconds=0.05), stages)


@pytest.mark.slow
def test_the_transform_of_raw_rows_is_a_stage(tmp_path):
    raw_features.write(tmp_path / "out", raw_features.FIXED)

    found = bench.measure(tmp_path / "out", batch_size=4, seconds=0.05)

    check(found, [*TF_STAGES, "transform"])
    # The reader of NumPy arrays would not transform them.
    assert not any("loaders.numpy" in advice.change for advice in found.advice)


@pytest.mark.parametrize("fixture", ["root", "ragged_root"])
def test_what_is_timed_is_what_the_loader_does(request, fixture):
    root = request.getfixturevalue(fixture)
    clock = timing.Clock()
    manifest = read_manifest(root)
    timed = iter(timing.timed_loader(str(root), "train", batch_size=7, seed=3, clock=clock))
    begun = time.perf_counter()
    clock.restart()

    for expected in Loader(root, "train", batch_size=7, seed=3, epochs=2):
        assert_same_batch(next(timed), expected)

    clock.switch(timing.READ)
    assert sum(clock.seconds.values()) <= time.perf_counter() - begun
    used = {name for name, seconds in clock.seconds.items() if seconds}
    assert used == set(NUMPY_STAGES) - ({"checksum"} if manifest.record_bytes is None else set())
    # Where a chunk lies in two windows, its records may be read for both.
    assert clock.touched >= 2 * sum(shard.bytes for shard in manifest.splits["train"])


def test_a_stage_inside_another_is_not_counted_twice():
    clock = timing.Clock()
    with clock.stage(timing.DECODE):
        with clock.stage(timing.READ):
            time.sleep(0.1)
        with clock.stage(timing.CHECKSUM):
            time.sleep(0.05)
    clock.switch(timing.READ)

    assert clock.seconds[timing.READ] >= 0.1
    assert clock.seconds[timing.CHECKSUM] >= 0.05
    assert clock.seconds[timing.DECODE] < 0.05
    assert clock.seconds[timing.ORDER] < 0.05


def slow(seconds):
    while True:
        time.sleep(seconds)
        yield 10.0


def test_a_step_waits_for_what_is_not_ready():
    hungry = timing.feed(slow(0.1), 0.001, 0.5)
    assert hungry.waiting > 0.8
    assert hungry.starves
    fed = timing.feed(slow(0), 0.1, 0.3)
    assert fed.waiting < 0.02
    assert not fed.starves
    assert fed.steps == 3


def test_the_pace_is_that_of_the_batches_after_the_first():
    found = timing.pace(lambda: slow(0.05), 0.2)

    assert found.first >= 0.05
    assert found.rows in (10, 20, 30, 40)
    assert found.seconds >= found.rows / 10 * 0.05
    assert timing.pace(lambda: slow(0.05), 0).rows == 10


def test_a_step_starves_where_it_is_shorter_than_a_batch(tmp_path):
    rows = {"x": np.ones((64, 1 << 14), np.float32)}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=8, features=shards.specs(rows))

    short, long = (
        bench.measure(tmp_path / "out", loader="numpy", batch_size=32, step_ms=step, seconds=0.3)
        for step in (0.001, 300)
    )

    assert short.step.waiting > bench.timing.STARVES
    assert short.to_json()["step"]["starves"]
    assert long.step.waiting < bench.timing.STARVES
    assert long.step.seconds == 0.3
    assert long.advice == ()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loader": "torch"}, ValueError, "loader is one of tf, numpy; found 'torch'"),
        ({"batch_size": 0}, ValueError, "batch_size is at least 1, .*; found 0"),
        ({"seconds": 0}, ValueError, "above 0; found 256, 0, None"),
        ({"step_ms": 0}, ValueError, "above 0; found 256, 5.0, 0"),
        ({"split": "none"}, ManifestError, "there is no split 'none'"),
        ({"split": "empty"}, ValueError, "split empty: expected rows; found none"),
        ({"root": "gs://bucket/out", "loader": "numpy"}, ValueError, "expected a local directory"),
    ],
)
def test_bad_options_are_named(tmp_path, options, error, message):
    write_numbered(tmp_path / "out", [0], rows_per_record=4, split="empty")

    with pytest.raises(error, match=message):
        bench.measure(**({"root": tmp_path / "out", "split": "empty"} | options))


def test_it_imports_no_tensorflow():
    program = "import sys, loaders.diagnostics.bench, loaders.diagnostics.timing; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
