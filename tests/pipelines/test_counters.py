"""What a build counts is the same wherever its work runs, and is what the manifest says."""

import shutil

import numpy as np
import pytest

from pipelines import counters
from pipelines.config.schema import parse_config
from pipelines.interface.build import rows_of
from pipelines.interface.tables import of_counts
from pipelines.output.directory import Output
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.run import Build
from pipelines.runners.beam import run_pipeline
from pipelines.sources.table import scan
from pipelines.write.shards import write_task
from tests.support import commands
from tests.support.arrays import write_files

ROWS, MISSING = 5000, 713
SETTINGS = {"shard_bytes": 30_000, "splits": {"train": 1}, "filter": "y != 3"}
THREADS = ("--direct_num_workers=2",)


def write_source(root):
    x = np.arange(ROWS * 8, dtype=np.float32).reshape(ROWS, 8)
    y = np.arange(ROWS) % 10
    x[np.flatnonzero(y != 3)[:MISSING], 5] = np.nan
    return write_files(root, {"x-0.npy": x[:2000], "x-1.npy": x[2000:], "y-0.npy": y[:2000], "y-1.npy": y[2000:]})


def plan_of(source):
    config = parse_config(SETTINGS)
    table = scan(source, config)
    return make_plan(table, resolve_config(config, table))


def counted(plan, root, workers=1, **options):
    with counters.counting() as counter:
        manifest = Build(plan=plan, root=str(root), **options).run(workers=workers)
    return manifest, rows_of(counter)


@pytest.mark.parametrize("options", [(), THREADS])
def test_counts_are_those_of_the_manifest(tmp_path, options):
    plan = plan_of(write_source(tmp_path / "src"))
    manifest, counts = counted(plan, tmp_path / "out", beam_options=options)
    found = counts
    shards = [shard for split in manifest.splits.values() for shard in split]
    assert len(shards) > 4
    assert found["shards"] == len(shards)
    assert found["shard_bytes"] == sum(shard.bytes for shard in shards)
    assert found["rows"] == manifest.rows("train")
    assert found["dropped"] == manifest.dropped == ROWS // 10
    assert found["missing"] == MISSING
    assert found["write_rows"] == found["analyze_rows"] == ROWS
    assert found["write_bytes"] == ROWS * plan.table.row_bytes


def lines_of(process):
    return [line for line in process.stdout.splitlines() if line.startswith(("read ", "wrote ", "the runner "))]


@pytest.mark.slow
def test_every_way_to_run_a_build_says_the_same(tmp_path):
    source = write_source(tmp_path / "src")
    manifest, counts = counted(plan_of(source), tmp_path / "here")
    said = of_counts(counts, rows=manifest.rows("train"))
    assert len(said) == 2
    assert f"{MISSING} missing values in the training rows" in said[0]
    assert said[1].startswith(f"wrote {manifest.rows('train'):,} rows")
    settings = [option for key, value in SETTINGS.items() for option in ("--set", f"{key}={value}".replace("'", '"'))]
    for number, options in enumerate((("--workers=2",), THREADS)):
        done = commands.run("build", source, tmp_path / str(number), *settings, *options)
        assert done.returncode == 0, done.stderr
        assert lines_of(done) == said, options


@pytest.mark.slow
def test_what_an_earlier_run_has_written_is_told_apart(tmp_path, monkeypatch):
    plan = plan_of(write_source(tmp_path / "src"))
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.publish.manifest.publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Build(plan=plan, root=str(tmp_path / "out")).run()
    for index in range(2):
        (tmp_path / f"out/_build/tasks/0-{index:05d}.json").unlink()
    manifest, counts = counted(plan, tmp_path / "out")
    found = counts
    shards = manifest.splits["train"]
    assert found["shards"] == 2
    assert found["found_shards"] == len(shards) - 2
    assert found["rows"] == sum(shard.rows for shard in shards[:2])
    assert found["rows"] + found["found_rows"] == manifest.rows("train")
    lines = of_counts(counts, rows=manifest.rows("train"))
    assert f"; {found['found_rows']:,} rows in {len(shards) - 2} shards were there already" in lines[-1]


def test_a_runner_that_counts_differently_is_told():
    counts = {
        "rows": 120,
        "shards": 3,
        "shard_bytes": 9,
        "analyze_bytes": 10**6,
        "write_bytes": 2 * 10**6,
        "retries": 2,
    }
    assert of_counts(counts, rows=120)[-1].startswith("wrote 120 rows")
    assert of_counts(counts, rows=100)[-1] == "the runner counts 120 rows; the manifest has 100"
    assert of_counts({}, rows=100) == ["the runner gives no counts; the manifest has 100"]
    assert of_counts(counts, rows=120)[0].startswith("read 976.6 KiB to analyze and 1.9 MiB to write; 2 retries")
    remote = of_counts(counts | {"requests": 240, "bytes_read": 3 * 10**6}, rows=120)[0]
    assert "; 240 requests for 2.9 MiB, 2 retries" in remote


def double(item):
    counters.count("things", item)
    return item


def test_counts_inside_and_outside_of_a_pipeline_add_up():
    import apache_beam as beam

    with counters.counting() as counter:
        counters.count("things", 1000)
        with run_pipeline([]) as pipeline:
            _ = pipeline | beam.Create([1, 2, 3]) | beam.Map(double)
            counters.count("things", 100)
        counters.count("things", 10)
    assert counter.read("things").rows == 1116


def test_a_task_that_is_done_twice_in_a_process_counts_once_as_found(tmp_path):
    plan = plan_of(write_source(tmp_path / "src"))
    Build(plan=plan, root=str(tmp_path / "out")).run()
    output = Output(str(tmp_path / "again"))
    shutil.copytree(tmp_path / "out/transform", output.new_transform)
    with counters.counting() as counter:
        for _ in range(2):
            done = write_task(plan.task(1), plan, output)
    assert counter.read("shards").rows == counter.read("found_shards").rows == 1
    assert counter.read("rows").rows == counter.read("found_rows").rows == done.rows - done.dropped
