"""A real Flink cluster on loopback for the tests, and builds that run on it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.support import commands
from tests.support.commands import Command

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "flink.sh"
REQUIRED = "NPYFLOW_REQUIRE_FLINK"
PARTS = ("flink-*/bin", "beam-*.jar", "submitted-*.jar", "boot-*")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One JobManager and two TaskManagers with two slots each.

    Attributes:
        directory: Where it has its settings, logs and temporary files.
        environment: The environment variables of everything that belongs to it.
        port: The port of its address.
    """

    directory: pathlib.Path
    environment: dict
    port: int

    @property
    def temporary(self):
        """Where all programs put their temporary files."""
        return pathlib.Path(self.environment["TMPDIR"])

    @property
    def master(self):
        return f"127.0.0.1:{self.port}"

    def call(self, *arguments):
        done = subprocess.run(
            ["bash", str(SCRIPT), *arguments], env=self.environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, path):
        with urllib.request.urlopen(f"http://{self.master}/{path}", timeout=10) as response:
            return json.load(response)

    def managers(self, kind):
        """The processes of JobManagers (standalonesession) or TaskManagers (taskexecutor)."""
        return [int(line) for line in (self.directory / f"flink-npyflow-{kind}.pid").read_text().split()]

    def workers(self):
        """The Python workers, the oldest first."""
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                here = os.readlink(process / "cwd").startswith(f"{self.directory}/tmp/worker.")
                if here and b"sdk_worker_main" in (process / "cmdline").read_bytes():
                    found.append((process.stat().st_ctime, int(process.name)))
        return [process for _, process in sorted(found)]

    def failures(self):
        """How often a worker has raised an error in the job that runs."""
        (job,) = self.running()
        raised = self.ask(f"jobs/{job['jid']}/exceptions")["exceptionHistory"]["entries"]
        return sum("Traceback (most recent call last)" in failure["stacktrace"] for failure in raised)

    def running(self):
        """The jobs that have not ended."""
        jobs = self.ask("jobs/overview")["jobs"]
        return [job for job in jobs if job["state"] not in ("FINISHED", "CANCELED", "FAILED")]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def make_cluster(directory):
    """A cluster that is not yet started; skips the tests where there can be none, unless they are demanded."""
    cache = pathlib.Path(os.environ.get("FLINK_HOME_CACHE", pathlib.Path.home() / ".cache/npyflow/flink"))
    if not os.environ.get(REQUIRED):
        missing = [program for program in ("java", "curl") if shutil.which(program) is None]
        missing += [part for part in PARTS if not list(cache.glob(part))]
        if missing:
            pytest.skip(f"no Flink here: {', '.join(missing)} missing; scripts/flink.sh setup gets it ({REQUIRED}=1)")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    port = free_port()
    temporary = directory.parent / "tmp"
    temporary.mkdir()
    environment = {
        **os.environ,
        "COLUMNS": "80",  # some CI systems set it; programs that ask ps then see less of a command
        "TMPDIR": str(temporary),
        "PYTHON": sys.executable,
        "PYTHONPATH": path,
        "NPYFLOW_FLINK_DIR": str(directory),
        "NPYFLOW_FLINK_PORT": str(port),
        "NPYFLOW_FLINK_RPC_PORT": str(free_port()),
        "NPYFLOW_FLINK_MANAGERS": "2",
        "NPYFLOW_FLINK_SLOTS": "2",
        "NPYFLOW_FLINK_JAR": next(map(str, cache.glob("submitted-*.jar")), ""),
    }
    return Cluster(directory=directory, environment=environment, port=port)


def where(cluster):
    """The options for the cluster's runner."""
    return ["--runner=FlinkRunner", f"--flink_master={cluster.master}"]


def command(cluster, source, output, *options):
    """The command that builds on the cluster, with workers in its own process unless the options say otherwise."""
    return [sys.executable, "-m", "pipelines.cli", "build", str(source), str(output), *where(cluster), *options]


def begin(cluster, command):
    return subprocess.Popen(
        command, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def start(cluster, source, output, *options, what="build"):
    """Begins a build, or an append, on the cluster."""
    return Command(what, source, output, *where(cluster), *options, env=cluster.environment)


def in_processes(cluster):
    """The options for Python workers that the TaskManagers start, one each."""
    config = json.dumps({"command": str(cluster.directory / "boot.sh")})
    return ["--environment_type=PROCESS", f"--environment_config={config}", "--sdk_worker_parallelism=1"]


def finish(process, *, seconds=300):
    """Waits for a build; returns what it has shown."""
    try:
        shown, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return shown


def build_here(source, output, *options, what="build"):
    """Builds, or appends, with Beam's runner in one process, undisturbed."""
    done = commands.run(what, source, output, "--runner=DirectRunner", *options)
    assert done.returncode == 0, done.stderr
    return contents(output)


def contents(output):
    """A digest of each file of a data set that is a function of its sources."""
    paths = [*output.rglob("*.tfrecord"), *output.glob("*.npz"), *output.glob("*.pb*")]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def wait_for_tasks(output, count, process, *, seconds=240):
    """Waits until some shards are written, while the build runs."""
    end = time.monotonic() + seconds
    while len(list(output.glob("_build/tasks/*.json"))) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_until(condition, *, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)
