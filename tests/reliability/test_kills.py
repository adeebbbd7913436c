"""Builds as processes of their own: killed, interrupted, with several workers, and within bounds of memory."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipelines.config.schema import parse_config
from pipelines.maintain.verify import verify
from pipelines.output.directory import Output, read_manifest
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.sources.table import scan
from pipelines.write.shards import write_task
from tests.support import commands, small_disk

pytestmark = pytest.mark.slow


def make_table(root, rows, *, parts=8):
    """32 float32 columns with 5 % NaN and int64 labels, in files of equal size."""
    root.mkdir()
    generator = np.random.default_rng(0)
    for part in range(parts):
        x = generator.standard_normal((rows // parts, 32), dtype=np.float32)
        x[generator.random(x.shape, dtype=np.float32) < 0.05] = np.nan
        np.save(root / f"features-{part:03d}.npy", x)
        np.save(root / f"labels-{part:03d}.npy", generator.integers(0, 10, len(x)))
    return root


def start(source, output, *options):
    return commands.Command("build", source, output, *options)


def start_anew(source, output, *options):
    """What `start` does, with a program that has imported nothing yet."""
    command = [sys.executable, "-m", "pipelines.cli", "build", str(source), str(output), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def build(source, output, *options):
    process = start(source, output, *options)
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    return read_manifest(str(output))


def wait_for(condition, process, *, seconds=120):
    """Waits until a file is there, say, while the process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    source = make_table(root / "src", 200_000)
    return source, build(source, root / "out", "--set", "shard_bytes=1MiB")


MODES = {
    "one process": ["--workers=1"],
    "threads": ["--direct_num_workers=3"],
    "forked": ["--workers=2"],
    "more forked": ["--workers=3"],
}

STAGES = {
    "before the analysis": lambda out: (out / "_build/state.json").exists(),
    "during the analysis": lambda out: any(path.is_dir() for path in out.glob("_build/tmp/*")),  # of the transform
    "after the first shards": lambda out: len(list(out.glob("_build/tasks/*.json"))) >= 3,
    "near the end": lambda out: len(list(out.glob("_build/tasks/*.json"))) >= 16,
}


def check_undisturbed(out, manifest):
    """The data set is what an undisturbed build has made, and nothing else lies there."""
    assert read_manifest(str(out)).splits == manifest.splits
    assert not verify(str(out)).problems
    assert not [path for path in out.rglob("*") if path.name.startswith((".", "_"))]
    shards = {shard.file for split in manifest.splits.values() for shard in split}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.tfrecord")} == shards


def test_a_build_that_is_stopped_at_every_stage_ends_with_the_same_shards(undisturbed, tmp_path):
    """Killed, or by Ctrl-C, which stops at once and says what to do."""
    source, manifest = undisturbed
    out = tmp_path / "out"
    for stage, reached in STAGES.items():
        process = start(source, out, "--set", "shard_bytes=1MiB")
        wait_for(lambda reached=reached: reached(out), process)
        process.send_signal(signal.SIGINT if stage == "during the analysis" else signal.SIGKILL)
        shown, _ = process.communicate(timeout=10)
        if stage == "during the analysis":
            assert process.returncode == 130
            assert shown.endswith("npyflow: interrupted; the same command goes on where it stopped\n")
            assert "Traceback" not in shown
        assert not (out / "manifest.json").exists()
    build(source, out, "--set", "shard_bytes=1MiB")
    check_undisturbed(out, manifest)


def test_a_build_that_is_killed_at_random_times_ends_with_the_same_shards(undisturbed, tmp_path):
    """From before the first file is there to the moment when the manifest comes."""
    source, manifest = undisturbed
    out = tmp_path / "out"
    random, kills = np.random.default_rng(11), 0
    for longest in (3, 6, 9, 12):
        process = start_anew(source, out, "--set", "shard_bytes=1MiB", *MODES["forked"])
        try:
            process.communicate(timeout=random.uniform(0, longest))
        except subprocess.TimeoutExpired:
            workers = leaves(process.pid)
            process.kill()
            process.communicate()
            wait_for_the_end_of(workers)
            kills += 1
    assert kills >= 2
    if not (out / "manifest.json").exists():
        build(source, out, "--set", "shard_bytes=1MiB")
    check_undisturbed(out, manifest)


def test_sigterm_leaves_no_worker_behind(undisturbed, tmp_path):
    source, _ = undisturbed
    process = start(source, tmp_path / "out", "--set", "shard_bytes=64KiB", *MODES["forked"])
    wait_for(lambda: STAGES["after the first shards"](tmp_path / "out"), process)
    workers = leaves(process.pid)
    assert workers
    process.send_signal(signal.SIGTERM)
    shown, _ = process.communicate(timeout=10)
    assert process.returncode == 143
    assert shown.endswith("npyflow: interrupted; the same command goes on where it stopped\n")
    wait_for_the_end_of(workers)


def wait_for_the_end_of(processes, *, seconds=20):
    end = time.monotonic() + seconds
    while any(pathlib.Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("mode", ["threads", "forked", "more forked"])
def test_the_number_of_workers_changes_no_byte(mode, undisturbed, tmp_path):
    source, manifest = undisturbed
    assert build(source, tmp_path / "out", "--set", "shard_bytes=1MiB", *MODES[mode]).splits == manifest.splits


def test_workers_share_every_round_of_learning(undisturbed, tmp_path):
    """A median takes several rounds, of which the first begins before TensorFlow is there."""
    source, _ = undisturbed
    options = [
        "--set",
        "features.features={impute: median, normalize: [{quantile: normal}, zscore]}",
        "--set=shard_bytes=4MiB",
    ]
    alone = build(source, tmp_path / "alone", *options)
    assert build(source, tmp_path / "shared", *options, *MODES["forked"]).splits == alone.splits


@pytest.mark.parametrize("stage", ["during the first reading", "after the first shards"])
def test_a_build_survives_a_killed_forked_worker(stage, undisturbed, tmp_path):
    """While TensorFlow is imported one worker reads; those that write do its work when it is gone."""
    source, manifest = undisturbed
    out = tmp_path / "out"
    process = start_anew(source, out, "--set", "shard_bytes=1MiB", *MODES["forked"])
    if stage == "during the first reading":
        wait_for(lambda: leaves(process.pid), process)
    else:
        wait_for(lambda: STAGES[stage](out), process)
    workers = leaves(process.pid)
    os.kill(workers[-1], signal.SIGKILL)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 0, shown
    wait_for_the_end_of(workers)
    check_undisturbed(out, manifest)


def test_where_all_forked_workers_are_killed_the_same_command_goes_on(undisturbed, tmp_path):
    source, manifest = undisturbed
    out = tmp_path / "out"
    process = start(source, out, "--set", "shard_bytes=64KiB", *MODES["forked"])
    wait_for(lambda: STAGES["after the first shards"](out), process)
    workers = leaves(process.pid)
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):  # those of the first reading end by themselves
            os.kill(worker, signal.SIGKILL)
    shown, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "npyflow: a worker process was killed, and no other one is left" in shown.splitlines()[-1], shown
    wait_for_the_end_of(workers)
    assert not (out / "manifest.json").exists()
    assert build(source, out, "--set", "shard_bytes=64KiB").rows("train") == manifest.rows("train")
    assert not verify(str(out)).problems


@pytest.mark.parametrize("mode", ["one process", "threads", "forked"])
def test_an_error_in_a_worker_is_one_line(mode, tmp_path):
    (tmp_path / "src").mkdir()
    np.save(tmp_path / "src" / "x.npy", np.array([[1.0], [np.inf], [2.0]]))
    process = start(tmp_path / "src", tmp_path / "out", "--set=splits={train: 1}", *MODES[mode])
    shown, _ = process.communicate()
    assert process.returncode == 1
    *table, message = shown.splitlines()
    path = tmp_path / "src" / "x.npy"
    assert message == f"npyflow: {path} (feature x): expected finite values or NaN; found inf in row 1 at (0,)"
    assert not any("Traceback" in line or "Error" in line for line in table), shown


def leaves(pid):
    """The processes below a process that have none below themselves; Beam starts its workers through a shell."""
    listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    children = [int(line) for line in listing.split()]
    return [leaf for child in children for leaf in (leaves(child) or [child])]


def peak_bytes(source, output):
    """The peak of resident memory of a build, of its largest process."""
    program = (
        "import pathlib, re, resource, sys\n"
        "from pipelines.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        # getrusage would count what the process that started this one held.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "own = int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])\n"
        "print('peak', max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024)\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-c", program, "build", str(source), str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def test_memory_does_not_grow_with_the_data(tmp_path):
    peaks = []
    for rows in (1_000_000, 2_000_000):
        source = make_table(tmp_path / f"src{rows}", rows)
        peaks.append(peak_bytes(source, tmp_path / f"out{rows}"))
    print("peaks in MiB:", [peak / 2**20 for peak in peaks])
    assert peaks[0] < 1.2e9
    assert peaks[1] < 1.1 * peaks[0]


GOES_ON = "The same command goes on where it stopped"


def test_a_disk_that_is_full(undisturbed, tmp_path):
    """A file system of 4 MB for a data set of 30 MB, then more."""
    source, manifest = undisturbed
    out = tmp_path / "disk" / "out"
    command = [sys.executable, "-m", "pipelines.cli", "build", str(source), str(out), "--set=shard_bytes=1MiB"]
    found = small_disk.run_twice([*command, *MODES["forked"]], out.parent, size="4m", file_bytes=500_000)
    last = found.shown.splitlines()[-1]
    # A task's record may be what there is no room for, where two workers fill the disk.
    written = re.escape(f"npyflow: {out}/") + r"(train|validation|test|_build/tasks)/\S+"
    assert re.fullmatch(f"{written}: {found.reason}. {GOES_ON}", last), found.shown
    assert "Traceback" not in found.shown
    check_undisturbed(found.finished, manifest)


def test_a_shard_whose_write_fails_twice(undisturbed, tmp_path):
    """What fails is the operating system's rename: a directory has the name of a shard."""
    source, manifest = undisturbed
    out = tmp_path / "out"
    blocked = out / list(manifest.splits["train"])[2].file
    process = start(source, out, "--set", "shard_bytes=1MiB")
    wait_for(lambda: STAGES["before the analysis"](out), process)
    (blocked / "in the way").mkdir(parents=True)
    shown, _ = process.communicate()
    assert process.returncode == 1
    second = start(source, out, "--set", "shard_bytes=1MiB")
    shown_again, _ = second.communicate()
    assert second.returncode == 1
    for message in (shown, shown_again):
        assert message.splitlines()[-1] == f"npyflow: {blocked}: Is a directory. {GOES_ON}"
    assert not (out / "manifest.json").exists()
    (blocked / "in the way").rmdir()
    blocked.rmdir()
    build(source, out, "--set", "shard_bytes=1MiB")
    check_undisturbed(out, manifest)


def test_tasks_that_run_several_times_at_once(undisturbed, tmp_path):
    """As with a runner that does not wait for a slow worker: each shard is written by two at the same time."""
    source, manifest = undisturbed
    out = tmp_path / "out"
    process = start(source, out, "--set", "shard_bytes=1MiB")
    wait_for(lambda: STAGES["after the first shards"](out), process)
    process.kill()
    process.communicate()
    shutil.rmtree(out / "_build" / "tasks")  # so that no task is passed over
    shutil.rmtree(out / "_build" / "tmp")
    config = parse_config({"shard_bytes": "1MiB"})
    table = scan(str(source), config)
    plan, output = make_plan(table, resolve_config(config, table)), Output(str(out))
    both = threading.Barrier(2, timeout=60)

    def write_all():
        for task in plan.tasks():
            both.wait()
            yield write_task(task, plan, output)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(list, (write_all(), write_all()))
    assert one == other
    assert not list((out / "_build" / "tmp").iterdir())
    build(source, out, "--set", "shard_bytes=1MiB")
    check_undisturbed(out, manifest)
