"""What a build will read, write and take, told before it begins."""

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import counters
from pipelines.cli import main
from pipelines.config.schema import parse_config
from pipelines.errors import DataError
from pipelines.forecast.calibrate import calibrate, in_small_tasks, spread_out
from pipelines.forecast.estimate import describe, memory, read_bytes, seconds, shard_row_bytes
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.run import Build
from pipelines.sources.table import scan
from pipelines.storage import directories
from tests.support.arrays import write_files
from tests.support.calibrations import MEASURED

ROWS = 6000


def plan_of(source, **said):
    config = parse_config(said)
    table = scan(source, config)
    return make_plan(table, resolve_config(config, table))


def arrays(rows=ROWS):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 8)).astype(np.float32)
    x[::9, 2] = np.nan
    half = rows // 2
    whole = {"x": x, "y": np.arange(rows) % 7, "word": np.array([f"w{n % 11}" for n in range(rows)])}
    return {f"{name}-{n}.npy": part for name, a in whole.items() for n, part in enumerate((a[:half], a[half:]))}


KINDS = {
    "plain": {},
    "several rounds": {"features": {"x": {"impute": "median", "normalize": ["zscore", {"quantile": "normal"}]}}},
    "one row a record": {"rows_per_record": 1},
    "by a group": {"splits": {"group": "y", "fractions": {"train": 0.7, "test": 0.3}}},
    "by a column": {
        "splits": {"column": "y", "names": list("abcdefg")},
        "training": "a",
        "features": {"y": {"store": "none"}},
    },
    "filtered": {"filter": "y != 3"},
    "strings only": {"features": {"x": {"store": "none"}, "y": {"store": "none"}}},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_build_reads_and_writes_what_was_forecast(tmp_path, kind):
    source = write_files(tmp_path / "src", arrays())
    plan = plan_of(source, shard_bytes=60_000, **KINDS[kind])
    expected = describe(plan)
    with counters.counting() as counter:
        manifest = Build(plan=plan, root=str(tmp_path / "out")).run()
    counts = {name: count.rows for name, count in counter.counts().items()}
    for stage, size in read_bytes(plan).items():
        # The rows that show what the transform does are looked for in a unit of analysis, here all rows.
        golden = 8 * ROWS if stage == "split" and plan.config.has_transform else 0
        assert counts[f"{stage}_bytes"] == pytest.approx(size + golden, rel=0.01), stage
    assert {stage for stage in ("split", "analyze", "write") if counts.get(f"{stage}_bytes")} == set(read_bytes(plan))
    shards = {name: len(found) for name, found in manifest.splits.items()}
    assert shards == {name: split["shards"] for name, split in expected["splits"].items()}
    assert sum(shards.values()) == counts["shards"]


@pytest.mark.slow
def test_the_bytes_of_shards_are_those_of_full_records(tmp_path):
    """Records are full but for the last of each shard."""
    source = write_files(tmp_path / "src", {name: a for name, a in arrays(60_000).items() if "word" not in name})
    plan = plan_of(source, shard_bytes=500_000)
    manifest = Build(plan=plan, root=str(tmp_path / "out")).run()
    written = sum(shard.bytes for split in manifest.splits.values() for shard in split)
    assert written == pytest.approx(shard_row_bytes(plan) * 60_000, rel=0.01)
    for name, split in describe(plan)["splits"].items():
        assert sum(shard.bytes for shard in manifest.splits[name]) == pytest.approx(split["bytes"], rel=0.05)


@given(count=st.integers(0, 1000), most=st.integers(1, 20))
def test_samples_are_spread_out(count, most):
    found = spread_out(count, most)
    assert len(found) == len(set(found)) == min(count, most)
    assert all(0 <= number < count for number in found)
    if count > 2 * most:
        gaps = np.diff([-1, *sorted(found), count])
        assert gaps.max() <= count / most + 1


def test_small_tasks_are_the_same_rows_in_the_same_blocks(tmp_path, monkeypatch):
    source = write_files(tmp_path / "src", arrays())
    plan = plan_of(source, shard_bytes=100_000)
    monkeypatch.setattr("pipelines.forecast.calibrate.TASK_BYTES", 20_000)
    small = in_small_tasks(plan)
    assert small.task_count > 2 * plan.task_count
    blocks = [sorted((s.part, s.start, s.stop) for task in p.tasks() for s in p.blocks(task)) for p in (plan, small)]
    assert blocks[0] == blocks[1]


def test_the_time_of_so_many_workers(tmp_path):
    plan = plan_of(write_files(tmp_path / "src", arrays(100_000)), shard_bytes=100_000)
    plan = dataclasses.replace(plan, analysis_rows=1000)
    assert plan.task_count > 30
    one = seconds(plan, MEASURED, workers=1, forked=True)
    assert (one.begin, one.analyze) == (6.0, pytest.approx(10 + 20))
    assert one.write == pytest.approx(0.5 + 30)
    # The other process begins with the first round at once, and has done 4 s of its 10 when the imports are done.
    two = seconds(plan, MEASURED, workers=2, forked=True)
    assert two.analyze == pytest.approx(6 + 10)
    placed = seconds(plan, MEASURED, workers=2, forked=False)
    assert placed.analyze == pytest.approx(15)
    # No more workers than tasks can write.
    many = seconds(plan, MEASURED, workers=10**6, forked=False)
    assert many.write == pytest.approx(0.5 + 30 / plan.task_count)
    # One worker too few, and all wait for the last task.
    half = seconds(plan, MEASURED, workers=plan.task_count - 1, forked=False)
    assert half.write == pytest.approx(0.5 + 2 * 30 / plan.task_count)
    assert memory(plan, MEASURED) > 1.01e9


def test_a_sample_without_a_value_is_an_error_that_a_forecast_tells(tmp_path, capsys):
    x = np.full((100, 2), np.nan)
    source = write_files(tmp_path / "src", {"x.npy": x})
    with pytest.raises(DataError):
        calibrate(plan_of(source))
    assert main.main(["build", source, str(tmp_path / "out"), "--dry_run"]) == 0
    shown = capsys.readouterr()
    assert "Time and memory are not forecast: feature x" in shown.err
    assert shown.out.startswith("features:")


FUNCTIONS = {
    "npyflow's analyzers": "npa.scale_to_z_score(npa.impute(inputs['x'], 'mean'))",
    "tf.transform's": "tft.scale_to_z_score(npa.impute(inputs['x'], 'mean'))",
}


@pytest.mark.parametrize("asked", FUNCTIONS)
def test_a_function_is_measured_unless_it_asks_tf_transform(tmp_path, capsys, asked):
    (tmp_path / "mine.py").write_text(
        "import tensorflow_transform as tft\nfrom pipelines import analyzers as npa\ndef prepare(inputs):\n"
        f"    return {{'x': {FUNCTIONS[asked]}}}\n"
    )
    source = write_files(tmp_path / "src", {"x.npy": np.ones((50, 2), np.float32), "y.npy": np.ones(50)})
    place = f"{tmp_path / 'mine.py'}:prepare"
    assert main.main(["build", source, str(tmp_path / "out"), "--dry_run", "--preprocessing_fn", place]) == 0
    shown = capsys.readouterr().err
    assert "To learn, it reads of the training rows 2 times: x; x" in shown
    assert "Not stored, as the function does not return them: y\n" in shown
    if asked == "tf.transform's":
        assert "not forecast: the preprocessing_fn asks tf.transform's own analyzers" in shown
        return
    # Statistics of both features and the first phase in one round of 16 bytes a row, and the second phase 8 of them.
    assert "It reads 1.2 KiB to analyze" in shown, shown
    assert "not forecast" not in shown
    assert "A worker needs" in shown


@pytest.mark.slow
def test_nothing_is_left_of_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    plan = plan_of(write_files(tmp_path / "src", arrays()), shard_bytes=60_000)
    before = directories.list_files(plan.table.root)
    found = calibrate(plan)
    assert (found.rows_analyzed, len(found.rounds)) == (ROWS, 1)
    assert found.shard_row_bytes == pytest.approx(shard_row_bytes(plan), rel=0.3)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert directories.list_files(plan.table.root) == before


@pytest.mark.slow
def test_the_transform_of_another_data_set_is_measured_without_an_analysis(tmp_path, capsys):
    source = write_files(tmp_path / "src", arrays())
    Build(plan=plan_of(source), root=str(tmp_path / "first")).run()
    arguments = ["build", source, str(tmp_path / "out"), "--transform", str(tmp_path / "first"), "--dry_run"]
    assert main.main(arguments) == 0
    shown = capsys.readouterr().err
    assert "to analyze" not in shown
    assert "0 rows analyzed" in shown


# The operating system's account of a process that has ended begins with the memory of the one that started it.
BUILD_AND_TELL = """
import re, sys
from pipelines.cli.main import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(code)
"""


@pytest.mark.slow
def test_a_build_takes_about_as_long_and_as_much_memory_as_was_forecast(tmp_path):
    rng = np.random.default_rng(0)
    x = {f"x-{n}.npy": rng.normal(size=(60_000, 64)).astype(np.float32) for n in range(4)}
    source = write_files(tmp_path / "src", x)
    plan = plan_of(source)
    command = [sys.executable, "-m", "pipelines.cli", "build", source, str(tmp_path / "out"), "--workers=1"]
    dry = subprocess.run([*command, "--dry_run"], capture_output=True, text=True, check=True).stderr
    (line,) = [line.split() for line in dry.splitlines() if line.split()[:1] == ["1"]]
    forecast = float(line[-2])
    assert line[-1] == "s"
    need = next(line for line in dry.splitlines() if line.startswith("A worker needs")).split()
    unit = {"MiB,": 2**20, "GiB,": 2**30}[need[4]]
    begun = time.monotonic()
    measured = [sys.executable, "-c", BUILD_AND_TELL, *command[3:]]
    shown = subprocess.run(measured, capture_output=True, text=True, check=True).stdout
    took = time.monotonic() - begun
    assert forecast / 3 < took < forecast * 3
    assert float(need[3]) * unit == pytest.approx(int(shown.split()[-1]) * 1024, rel=0.35)
    assert plan.table.nbytes > 60e6
