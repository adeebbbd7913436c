"""Builds on a real Flink cluster: byte for byte those of one process, whatever is killed."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils import thread_pool_executor

from pipelines.maintain.verify import verify
from tests.support import flink, small_disk
from tests.support.flink import build_here, contents, finish, in_processes, start, wait_for_tasks, wait_until

pytestmark = pytest.mark.slow

MANY_TASKS = "--set=shard_bytes=16KiB"

MODULE = """
from pipelines import analyzers as npa

def scale(inputs):
    filled = npa.impute(inputs["features"], "mean")
    return {"features": npa.scale_to_z_score(filled), "labels": inputs["labels"]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = flink.make_cluster(tmp_path_factory.mktemp("flink") / "cluster")
    try:
        found.call("start")
        yield found
    finally:
        processes = [*found.managers("standalonesession"), *found.managers("taskexecutor"), *found.workers()]
        found.call("stop")
        wait_until(lambda: not any(pathlib.Path(f"/proc/{process}").exists() for process in processes))
        assert [path.name for path in found.directory.iterdir()] == ["log"]


def save(root, name, array, *, parts=3):
    root.mkdir(exist_ok=True)
    for number, part in enumerate(np.array_split(array, parts)):
        order = np.asfortranarray if name == "cubes" else np.ascontiguousarray
        np.save(root / f"{name}-{number:03d}.npy", order(part))


def make_table(root, rows):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, 16), dtype=np.float32) * 3 + 100
    x[generator.random(x.shape) < 0.05] = np.nan
    save(root, "features", x)
    save(root, "labels", generator.integers(0, 10, rows))
    return root


def make_images(root):
    generator = np.random.default_rng(1)
    save(root, "images", generator.integers(0, 256, (300, 16, 16, 3), dtype=np.uint8))
    return root


def make_cubes(root):
    generator = np.random.default_rng(2)
    save(root, "cubes", generator.standard_normal((500, 6, 5, 4)))
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table whose shards are many, and what one process makes of it."""
    root = tmp_path_factory.mktemp("table")
    source = make_table(root / "src", 24_000)
    return source, build_here(source, root / "out", MANY_TASKS)


def check(output, expected):
    """Nothing is missing, doubled or left over."""
    assert contents(output) == expected
    assert not verify(str(output)).problems
    assert not [path for path in output.rglob("*") if path.name.startswith((".", "_"))]


def test_nothing_but_loopback_is_listened_on(cluster):
    """Whoever can send a job can run any program. (While a job runs, Beam's part of a TaskManager listens on more.)"""
    listing = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True).stdout
    ours = {*cluster.managers("standalonesession"), *cluster.managers("taskexecutor")}
    lines = [line for line in listing.splitlines() if any(f"pid={process}," in line for process in ours)]
    assert len(lines) >= 3
    assert all("127.0.0.1" in line.split()[3] for line in lines), lines


@pytest.mark.parametrize("parallelism", [1, 4])
def test_a_table_is_the_same_with_one_slot_and_with_four(cluster, table, tmp_path, parallelism):
    source, expected = table
    process = start(cluster, source, tmp_path / "out", MANY_TASKS, f"--parallelism={parallelism}")
    shown = finish(process)
    assert process.returncode == 0, shown
    check(tmp_path / "out", expected)
    assert not list(cluster.temporary.iterdir())


@pytest.mark.parametrize("make", [make_images, make_cubes])
def test_images_and_cubes_are_the_same_with_one_slot_and_with_four(cluster, tmp_path, make):
    """Where nothing is said of parallelism, all slots are used."""
    source = make(tmp_path / "src")
    options = ["--set=shard_bytes=32KiB", *(["--set=features.images.normalize=zscore"] * (make is make_images))]
    expected = build_here(source, tmp_path / "here", *options)
    for slots, said in ((1, ["--parallelism=1"]), (4, [])):
        process = start(cluster, source, tmp_path / f"{slots}", *options, *said)
        shown = finish(process)
        assert process.returncode == 0, shown
        check(tmp_path / f"{slots}", expected)
        job = max(cluster.ask("jobs/overview")["jobs"], key=lambda job: job["start-time"])
        assert max(vertex["parallelism"] for vertex in cluster.ask(f"jobs/{job['jid']}")["vertices"]) == slots


def test_a_pool_of_workers_elsewhere_does_the_same(cluster, tmp_path):
    source = make_table(tmp_path / "src", 1000)
    pool = grpc.server(thread_pool_executor.shared_unbounded_instance())
    servicer = BeamFnExternalWorkerPoolServicer(
        use_process=True, container_executable=str(cluster.directory / "boot.sh")
    )
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(servicer, pool)
    port = pool.add_insecure_port("127.0.0.1:0")
    pool.start()
    try:
        where = ["--environment_type=EXTERNAL", f"--environment_config=127.0.0.1:{port}", "--parallelism=1"]
        process = start(cluster, source, tmp_path / "out", *where)
        shown = finish(process)
        assert process.returncode == 0, shown
        assert servicer._worker_processes
    finally:
        for worker in servicer._worker_processes.values():
            worker.terminate()
            worker.wait()
        pool.stop(1)
    check(tmp_path / "out", build_here(source, tmp_path / "here"))


def test_a_worker_and_a_task_manager_are_killed(cluster, table, tmp_path):
    """The cluster begins again what was lost; where it gives up, the same command goes on."""
    source, expected = table
    options = [MANY_TASKS, *in_processes(cluster), "--parallelism=2", "--environment_expiration_millis=30000"]
    process = start(cluster, source, tmp_path / "out", *options)
    wait_for_tasks(tmp_path / "out", 5, process)
    os.kill(cluster.workers()[-1], signal.SIGKILL)
    wait_for_tasks(tmp_path / "out", 30, process)
    os.kill(cluster.managers("taskexecutor")[0], signal.SIGKILL)
    cluster.call("start")
    shown = finish(process)
    if process.returncode != 0:
        assert shown.splitlines()[-1].startswith("npyflow: http://127.0.0.1"), shown
        process = start(cluster, source, tmp_path / "out", *options)
        shown = finish(process)
    assert process.returncode == 0, shown
    check(tmp_path / "out", expected)


def test_the_job_manager_is_killed_and_the_same_command_goes_on(cluster, table, tmp_path):
    source, expected = table
    process = start(cluster, source, tmp_path / "out", MANY_TASKS)
    wait_for_tasks(tmp_path / "out", 10, process)
    os.kill(cluster.managers("standalonesession")[0], signal.SIGKILL)
    cluster.call("start")
    shown = finish(process)
    assert process.returncode == 1, shown
    assert "the cluster has lost the job. The same command goes on where it stopped" in shown.splitlines()[-1]
    process = start(cluster, source, tmp_path / "out", MANY_TASKS)
    shown = finish(process)
    assert process.returncode == 0, shown
    check(tmp_path / "out", expected)


def test_the_client_is_killed_and_its_job_makes_way_for_the_next(cluster, table, tmp_path):
    source, expected = table
    options = [MANY_TASKS, *in_processes(cluster)]
    process = start(cluster, source, tmp_path / "out", *options)
    wait_for_tasks(tmp_path / "out", 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert cluster.running()
    process = start(cluster, source, tmp_path / "out", *options)
    shown = finish(process)
    assert process.returncode == 0, shown
    check(tmp_path / "out", expected)
    assert not cluster.running()


def test_where_a_write_fails_twice_the_cluster_tries_again(cluster, table, tmp_path):
    """What fails is the operating system's rename: a directory has the name of a shard. The cluster tries again."""
    source, expected = table
    out = tmp_path / "out"
    blocked = out / sorted(name for name in expected if name.startswith("train/"))[2]
    process = start(cluster, source, out, MANY_TASKS)
    wait_until(lambda: (out / "_build" / "state.json").exists())
    (blocked / "in the way").mkdir(parents=True)
    wait_until(lambda: cluster.running() and cluster.failures() >= 2)
    (blocked / "in the way").rmdir()
    blocked.rmdir()
    shown = finish(process)
    assert process.returncode == 0, shown
    check(out, expected)


def test_a_full_disk_ends_the_job_and_the_same_command_goes_on(cluster, table, tmp_path):
    """The cluster tries again, and then gives up; with more room the same command goes on."""
    source, expected = table
    build = flink.command(cluster, source, tmp_path / "disk" / "out", MANY_TASKS)
    found = small_disk.run_twice(
        build, tmp_path / "disk", size="1536k", file_bytes=10_000, environment=cluster.environment
    )
    last = found.shown.splitlines()[-1]
    assert last.startswith("npyflow: ")
    assert found.reason in last
    assert "Traceback" not in found.shown
    assert not cluster.running()
    check(found.finished, expected)


def test_tasks_that_run_twice_at_once(cluster, table, tmp_path):
    """As a cluster does that does not wait for a slow worker: two TaskManagers' workers write each shard together."""
    source, expected = table
    out, meeting = tmp_path / "out", tmp_path / "meeting"
    process = start(cluster, source, out, MANY_TASKS)
    wait_for_tasks(out, 3, process)
    process.send_signal(signal.SIGINT)
    finish(process)
    wait_until(lambda: not cluster.running())
    shutil.rmtree(out / "_build" / "tasks")  # so that no task is passed over
    meeting.mkdir()
    program = [sys.executable, "-c", "from tests.support import twice; twice.main()"]
    where = [*flink.where(cluster), "--parallelism=1", *in_processes(cluster)]
    both = [
        flink.begin(cluster, [*program, str(number), str(source), str(out), str(meeting), *where]) for number in (0, 1)
    ]
    for each in both:
        shown = finish(each)
        assert each.returncode == 0, shown
    assert len({path.read_text() for path in meeting.iterdir()}) == 2  # processes
    process = start(cluster, source, out, MANY_TASKS)
    shown = finish(process)
    assert process.returncode == 0, shown
    check(out, expected)


def test_a_function_of_the_users_and_more_files(cluster, tmp_path):
    """Two phases; the function's module is where no worker would find it; append writes with what was learned."""
    (tmp_path / "mine.py").write_text(MODULE)
    source, here, there = make_table(tmp_path / "src", 1000), tmp_path / "here", tmp_path / "out"
    function = f"--set=preprocessing_fn={tmp_path / 'mine.py'}:scale"
    for what, options, where in (("build", [function], in_processes(cluster)), ("append", [], [])):
        expected = build_here(source, here, *options, what=what)
        process = start(cluster, source, there, *options, *where, what=what)
        shown = finish(process)
        assert process.returncode == 0, shown
        check(there, expected)
        for path in make_table(tmp_path / "more", 500).iterdir():
            path.rename(source / path.name.replace("-0", "-1"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_client_that_is_told_to_stop_cancels_its_own_job(cluster, table, tmp_path, number, code):
    source, _ = table
    process = start(cluster, source, tmp_path / "out", MANY_TASKS)
    wait_for_tasks(tmp_path / "out", 1, process)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    wait_until(lambda: not cluster.running())
    states = {job["state"] for job in cluster.ask("jobs/overview")["jobs"]}
    assert "CANCELED" in states


def test_values_that_cannot_be_used_are_one_line_at_once(cluster, tmp_path):
    (tmp_path / "src").mkdir()
    np.save(tmp_path / "src" / "x.npy", np.array([[1.0], [np.inf], [2.0]]))
    process = start(cluster, tmp_path / "src", tmp_path / "out", "--set=splits={train: 1}")
    shown = finish(process)
    assert process.returncode == 1
    path = tmp_path / "src" / "x.npy"
    message = f"npyflow: {path} (feature x): expected finite values or NaN; found inf in row 1 at (0,)"
    assert shown.splitlines()[-1] == message, shown
    assert not cluster.running()


def test_status_shows_what_runs(cluster):
    assert json.loads(cluster.call("status").splitlines()[0])["taskmanagers"] == 2


def test_a_pipeline_of_ones_own(cluster, tmp_path):
    """Reads, filters and writes: a shuffle of rows, and still the bytes of one process."""
    source = make_table(tmp_path / "src", 4000)
    program = [sys.executable, str(flink.ROOT / "tests/support/own_pipeline.py"), str(source)]
    done = subprocess.run([*program, str(tmp_path / "here")], env=cluster.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    process = flink.begin(cluster, [*program, str(tmp_path / "out"), *flink.where(cluster), "--parallelism=2"])
    shown = finish(process)
    assert process.returncode == 0, shown
    check(tmp_path / "out", contents(tmp_path / "here"))
