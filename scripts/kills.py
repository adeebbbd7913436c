"""Kills builds, appends and overwrites before every call that changes a file, and cuts the power there.

python scripts/kills.py              every call: an hour
python scripts/kills.py --each 20    the command is given again from 20 of the states that each command passes through
python scripts/kills.py --runner flink --each 8 --no_transform    on a Flink cluster of its own, whose workers are
                                                                  killed, too

A command is done once while what it changes is recorded. Each state that a kill, or a power cut, leaves is made anew:
a data set that is there has to verify, and the same command has to end with the data set of an undisturbed one. It
prints a table of what was tried, and ends with 1 if something was not so.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import pathlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from pipelines.output.directory import read_manifest
from tests.support import flink
from tests.support.killing import KINDS, Work, check, commands, record, try_image, write_sources

KILLS, TASKS = 2, 60
"""How often a process of the cluster is killed, and up to how many of the hundred tasks are done by then."""

SECONDS = 900
"""What is not done by then hangs."""

WORKERS = {"worker": "a Python worker is killed", "manager": "a TaskManager is killed"}


def main() -> int:
    """Tries all that is asked for."""
    parser = argparse.ArgumentParser(description="Kills commands before every call that changes a file.")
    parser.add_argument("--each", type=int, metavar="N", help="from how many states the command is given again (all)")
    parser.add_argument("--no_transform", action="store_true", help="build without a transform, which is faster")
    parser.add_argument("--runner", choices=["direct", "flink"], default="direct", help="where commands run (direct)")
    options = parser.parse_args()
    failed = False
    print("| command | before a call | states | commands given again | failed | seconds |", flush=True)
    print("| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(prefix="npyflow-kills-") as directory, contextlib.ExitStack() as stack:
        root = pathlib.Path(directory)
        sources, transformed = write_sources(root / "sources"), not options.no_transform
        cluster = stack.enter_context(_cluster(root)) if options.runner == "flink" else None
        where = [] if cluster is None else ["--runner=FlinkRunner", f"--flink_master={cluster.master}"]
        for name in commands(sources, transformed=transformed):
            work = record(name, sources, root / f"recorded-{name}", transformed=transformed, beam_options=where)
            for kind in KINDS:
                failed |= _try_states(name, kind, work, root / name / kind, options.each)
        for kind in WORKERS if cluster is not None else ():
            failed |= _try_killing(kind, cluster, root / kind)
    return int(failed)


def _try_states(name: str, kind: str, work: Work, root: pathlib.Path, each: int | None) -> bool:
    """Tries the states that one command leaves, prints their row, and says whether one has failed."""
    images = getattr(work, kind)
    count = len(images) if each is None else min(each, len(images))
    again = set(np.random.default_rng(0).choice(len(images), count, replace=False).tolist())
    tries = [
        functools.partial(try_image, work, image, root / str(number), again=number in again)
        for number, image in enumerate(images)
    ]
    return _try(name, KINDS[kind], tries, count)


def _try(name: str, kind: str, tries: list[Callable[[], None]], again: int) -> bool:
    """Tries something, prints its row, and says whether one has failed."""
    begun, failures = time.monotonic(), []
    for number, one in enumerate(tries):
        try:
            one()
        except Exception as error:  # whatever it is, the others are tried
            failures.append(f"{name}, {kind}, {number}: {type(error).__name__}: {error}")
    took = time.monotonic() - begun
    print(f"| {name} | {kind} | {len(tries)} | {again} | {len(failures)} | {took:.0f} |", flush=True)
    for failure in failures:
        print(failure, file=sys.stderr)
    return bool(failures)


@contextlib.contextmanager
def _cluster(root: pathlib.Path) -> Iterator[flink.Cluster]:
    """A Flink cluster of one's own, of what `scripts/flink.sh setup` has got."""
    cluster = flink.make_cluster(root / "cluster")
    os.environ["NPYFLOW_FLINK_JAR"] = cluster.environment["NPYFLOW_FLINK_JAR"]
    try:
        cluster.call("start")
        yield cluster
    finally:
        cluster.call("stop")


def _try_killing(kind: str, cluster: flink.Cluster, root: pathlib.Path) -> bool:
    """Kills processes of the cluster in the middle of builds, prints their row, and says whether one has failed."""
    (root / "src").mkdir(parents=True)
    np.save(root / "src" / "x.npy", np.random.default_rng(0).normal(size=(24_000, 16)).astype(np.float32))
    expected = flink.build_here(root / "src", root / "here", "--set=shard_bytes=16KiB")
    moments = np.random.default_rng(1).integers(0, TASKS, KILLS)

    def kill(number: int, tasks: int) -> None:
        out = root / str(number)
        options = ["--no_report", "--set=shard_bytes=16KiB", *flink.in_processes(cluster)]
        options += ["--environment_expiration_millis=30000"]
        process = flink.start(cluster, root / "src", out, *options)
        try:
            flink.wait_for_tasks(out, tasks, process, seconds=SECONDS)
            os.kill(cluster.workers()[-1] if kind == "worker" else cluster.managers("taskexecutor")[0], signal.SIGKILL)
            cluster.call("start")
            shown = flink.finish(process, seconds=SECONDS)
        finally:
            process.kill()
        if process.returncode and "The same command goes on" in shown:
            process = flink.start(cluster, root / "src", out, *options)
            shown = flink.finish(process, seconds=SECONDS)
        assert process.returncode == 0, shown
        check(out, read_manifest(str(out)))
        assert flink.contents(out) == expected

    tries = [functools.partial(kill, number, tasks) for number, tasks in enumerate(moments.tolist())]
    return _try("build", WORKERS[kind], tries, KILLS)


if __name__ == "__main__":
    sys.exit(main())
