"""How far a build is, from what lies in its output."""

import dataclasses
import itertools
import json
import os
import shutil
import socket
import threading

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.config.schema import parse_config
from pipelines.errors import NoBuildError
from pipelines.maintain import status
from pipelines.maintain.status import Watcher, describe_status, speed
from pipelines.output.directory import Output
from pipelines.output.lock import Holder, held
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.run import Build
from pipelines.sources.table import scan
from pipelines.storage import files
from pipelines.write.shards import write_task
from tests.support.arrays import RamFileSystem, write_files
from tests.support.builds import append, build

ROWS = 4000
CONFIG = {"shard_bytes": 4000, "splits": {"train": 0.8, "test": 0.2}}


def run(*arguments):
    return main.main([str(argument) for argument in arguments])


def write_numbers(root):
    return write_files(root, {"x.npy": np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)})


@pytest.fixture
def source(tmp_path):
    return write_numbers(tmp_path / "src")


def plan_of(source):
    config = parse_config(CONFIG)
    table = scan(source, config)
    return make_plan(table, resolve_config(config, table))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A build that stopped before its manifest, and its plan."""
    root = tmp_path_factory.mktemp("stopped")
    plan, write = plan_of(write_numbers(root / "src")), files.write_bytes

    def stop(path, data, **options):
        if path.endswith("manifest.json"):
            raise KeyboardInterrupt
        write(path, data, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            Build(plan=plan, root=str(root / "out")).run()
    return plan, root / "out"


@pytest.fixture
def unfinished(stopped, tmp_path):
    """The same with 3 of its tasks no longer done."""
    plan, out = stopped
    shutil.copytree(out, tmp_path / "out")
    for index in range(3):
        (tmp_path / f"out/_build/tasks/0-{index:05d}.json").unlink()
    return plan, tmp_path / "out"


def read(root):
    return Watcher(str(root)).read()


@pytest.mark.slow
def test_a_build_on_its_way(unfinished):
    plan, out = unfinished
    found = read(out)
    tasks = plan.task_count
    assert tasks > 8
    assert (found.state, found.sources, found.analyzed, found.exact) == ("building", plan.table.root, True, True)
    assert (found.tasks, found.tasks_done, found.shards, found.shards_done) == (
        tasks,
        tasks - 3,
        2 * tasks,
        2 * tasks - 6,
    )
    left_out = {plan.shard_file(split, index) for split in plan.splits for index in range(3)}
    shards = [path for path in out.rglob("*.tfrecord") if str(path.relative_to(out)) not in left_out]
    assert found.bytes_done == sum(path.stat().st_size for path in shards)
    missing = sum(span.rows for index in range(3) for span in plan.blocks(plan.task(index)))
    assert (found.rows, found.rows_done) == (ROWS, ROWS - missing)


def test_a_finished_data_set(source, tmp_path):
    manifest = build(source, tmp_path / "out", parse_config(CONFIG))
    found = read(tmp_path / "out")
    shards = [shard for split in manifest.splits.values() for shard in split]
    assert (found.state, found.rows_done, found.shards_done) == ("finished", ROWS, len(shards))
    assert found.bytes_done == sum(shard.bytes for shard in shards)
    assert not (tmp_path / "out/_build").exists()


def test_a_resumed_build_is_finished_with_what_status_said(unfinished):
    plan, out = unfinished
    watcher = Watcher(str(out))
    before = watcher.read()
    for index in range(3):
        write_task(plan.task(index), plan, Output(str(out)))
    after = watcher.read()
    assert (after.tasks_done, after.rows_done) == (plan.task_count, ROWS)
    assert after.bytes_done > before.bytes_done
    Build(plan=plan, root=str(out)).run()
    finished = watcher.read()
    assert (finished.state, finished.bytes_done, finished.rows_done) == ("finished", after.bytes_done, ROWS)


def test_records_are_read_once_and_reckoned_where_there_are_many(unfinished, monkeypatch):
    _, out = unfinished
    exact = read(out)
    monkeypatch.setattr(status, "READ_RECORDS", 4)
    watcher = Watcher(str(out))
    some = watcher.read()
    assert not some.exact
    assert some.rows_done == pytest.approx(exact.rows_done, rel=0.3)
    assert "about " in "\n".join(describe_status(some))
    while not (last := watcher.read()).exact:
        pass
    assert dataclasses.replace(last, idle_seconds=exact.idle_seconds) == exact
    monkeypatch.setattr(status, "read_record", pytest.fail)
    assert watcher.read().rows_done == exact.rows_done


def test_speed_is_that_of_the_last_tasks_of_this_run():
    assert speed([], begun=10.0) is None
    assert speed([10.0], begun=10.0) is None
    assert speed([12.0, 11.0, 14.0], begun=10.0) == 3 / 4
    slow_then_fast = [10.0 + 10 * k for k in range(1, 11)] + [110.0 + k for k in range(1, status.RATE_TASKS + 1)]
    assert speed(slow_then_fast, begun=10.0) == 1
    assert speed([0.0, 0.0], begun=0.0) is None  # a file system without times


def test_the_forecast_goes_by_the_times_of_the_records(unfinished):
    _, out = unfinished
    os.utime(out / "_build/plan.pickle", (1000, 1000))
    os.utime(out / "_build/analysis.done", (1100, 1100))
    tasks = sorted((out / "_build/tasks").iterdir())
    for number, path in enumerate(tasks):
        os.utime(path, (1100 + 2 * (number + 1),) * 2)
    found = read(out)
    assert found.last == 1100 + 2 * len(tasks)
    assert found.tasks_per_second == 0.5
    assert found.seconds_left == 6
    lines = "\n".join(describe_status(found, now=found.last + 3))
    assert "the last task was done 3.0 s ago" in lines
    assert "0.5 tasks/s; writing would take 6.0 s more" in lines
    # Begun again: what was done before says nothing of the speed now.
    os.utime(out / "_build/plan.pickle", (found.last - 4,) * 2)
    assert read(out).tasks_per_second == 3 / 4


@pytest.mark.slow
def test_an_append_on_its_way(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    build(source, out, parse_config(CONFIG))
    more = write_files(tmp_path / "more", {"x-1.npy": np.ones((50, 4), np.float32)})
    with monkeypatch.context() as patch:
        patch.setattr(
            "pipelines.maintain.publish_append.publish_append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            append(more, out)
    found = read(out)
    assert (found.state, found.sources, found.rows, found.rows_done) == ("appending", more, 50, 50)
    assert describe_status(found)[0].endswith(f"an append that is not finished, of {more}")
    append(more, out)
    assert (read(out).state, read(out).rows_done) == ("finished", ROWS + 50)


@pytest.mark.parametrize("state", [None, "not json", "[]", '{"format": "another"}'])
def test_what_is_no_build_is_an_error(tmp_path, state, capsys):
    (tmp_path / "out").mkdir()
    if state is not None:
        write_files(tmp_path / "out/_build", {"state.json": state.encode()})
    with pytest.raises(NoBuildError, match="out: expected a data set, finished or being built; found none"):
        read(tmp_path / "out")
    assert run("status", tmp_path / "out") == 2
    assert "expected a data set" in capsys.readouterr().err


def test_a_broken_record_is_not_counted_and_no_error(unfinished):
    _, out = unfinished
    before = read(out)
    path = sorted((out / "_build/tasks").iterdir())[0]
    path.write_text(path.read_text()[:20])
    assert not read(out).exact
    assert read(out).tasks_done == before.tasks_done


def test_the_command_line(unfinished, tmp_path, capsys):
    plan, out = unfinished
    assert run("status", out, "--json", tmp_path / "status.json") == 3
    shown = capsys.readouterr().out
    assert f"{out}: a build that is not finished, of {plan.table.root}" in shown
    assert f"writing: {plan.task_count - 3} of {plan.task_count} tasks" in shown
    found = json.loads((tmp_path / "status.json").read_text())
    assert (found["state"], found["tasks_done"]) == ("building", plan.task_count - 3)
    Build(plan=plan, root=str(out)).run()
    assert run("status", out) == 0
    assert f"{out}: finished; {ROWS:,} rows" in capsys.readouterr().out


def test_watching_ends_when_the_build_does(unfinished, monkeypatch, capsys):
    plan, out = unfinished
    monkeypatch.setattr(status, "WATCH_SECONDS", 0.05)
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run("status", out, "--watch")))
    thread.start()
    manifest = Build(plan=plan, root=str(out)).run()
    thread.join(timeout=60)
    assert codes == [0]
    lines = capsys.readouterr().out.splitlines()
    assert "not finished" in lines[0]
    rows = sum(map(manifest.rows, manifest.splits))
    assert lines[-1].startswith(f"{out}: finished; {rows:,} rows")
    assert all(line != following for line, following in itertools.pairwise(lines))


def test_who_is_at_work(unfinished):
    _, out = unfinished
    found = read(out)
    assert found.at_work is None
    assert 0 <= found.idle_seconds < 3600
    assert describe_status(found)[-1].startswith("at work: no driver on record")
    with held(Output(str(out))):
        found = read(out)
        assert found.at_work.startswith(f"{socket.gethostname()}, process {os.getpid()}, since 2")
        assert found.idle_seconds is None
        assert describe_status(found)[-1] == f"at work: {found.at_work}"
        # Another machine's lock in a shared directory: nobody here knows better.
        other = dataclasses.replace(Holder.this(), host="elsewhere", beat=0.0)
        (out / "_lock").write_bytes(other.dumps())
        assert read(out).at_work.startswith("elsewhere, process")
        (out / "_lock").write_bytes(dataclasses.replace(Holder.this(), started="before").dumps())
        assert read(out).at_work is None
        (out / "_lock").write_bytes(b"nonsense")
        assert read(out).at_work is None


def test_watching_ends_where_nobody_has_done_anything_for_long(unfinished, monkeypatch, capsys):
    _, out = unfinished
    monkeypatch.setattr(status, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(status, "IDLE_SECONDS", 0.3)
    assert run("status", out, "--watch") == 3
    shown = capsys.readouterr().out
    assert shown.count("not finished") == 1


def test_a_build_in_an_object_store(unfinished):
    _, out = unfinished
    for path in out.rglob("*"):
        if path.is_file():
            RamFileSystem.contents[f"ram://bucket/{path.relative_to(out)}"] = path.read_bytes()
    here, there = read(out), read("ram://bucket")
    assert there.last == 1.0  # the time of all its files
    for name in ("state", "tasks", "tasks_done", "rows_done", "bytes_done", "shards_done", "sources"):
        assert getattr(there, name) == getattr(here, name)
