"""A Flink cluster as its REST interface shows it, and the options of a job that nobody has given."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import ipaddress
import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from pipelines.errors import GOES_ON, ClusterError, ConfigError, NpyflowError, WorkerError
from pipelines.storage import files
from pipelines.storage.temporary import temporary_directory

RUNNER = "flinkrunner"

MASTER = "--flink_master"

JAR_VARIABLE = "NPYFLOW_FLINK_JAR"
"""The environment variable that names the jar that is sent with a job; `scripts/flink.sh` sets it to its own."""

KEPT_MILLIS = 60_000
"""How long Python workers are kept from stage to stage. Without, each stage imports TensorFlow anew; while one is kept,
no other is started in its place where it was killed."""

JAVA_OPTIONS = ("--environment_expiration_millis", "--execution_mode_for_batch")
"""Options that Beam has on the cluster's side only."""

WORKERS = ("PROCESS", "EXTERNAL", "DOCKER")
"""Where the Python workers of a cluster on other machines may run."""

ANSWER_SECONDS = 10
END_SECONDS = 60

FROM_WORKER = "Traceback (most recent call last)"

ENDED = ("FINISHED", "CANCELED", "FAILED")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A Flink cluster, by `http://HOST:PORT` of its REST interface."""

    url: str

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Self | None:
        """The cluster that options name.

        None where the runner is not Flink's, or is asked to make a cluster of its own, or a job server of the user's
        knows the cluster.
        """
        values = _values(arguments)
        master = values.get(MASTER, "").strip()
        if values.get("--runner", "").lower() != RUNNER or "--job_endpoint" in values:
            return None
        if not master or master.startswith("["):
            return None
        return cls((master if "://" in master else f"http://{master}").rstrip("/"))

    @property
    def is_here(self) -> bool:
        """Whether its address is one of this machine that no other can reach."""
        host = urllib.parse.urlsplit(self.url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def task_managers(self) -> list[int]:
        """The slots of each of its TaskManagers; a ConfigError where no cluster answers."""
        try:
            return [int(manager["slotsNumber"]) for manager in self._get("taskmanagers")["taskmanagers"]]
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            found = getattr(reason, "strerror", None) or reason
        except (ValueError, KeyError, TypeError):
            found = "something else that answers"
        raise ConfigError(f"{MASTER}: expected the address HOST:PORT of a Flink cluster; {self.url}: found {found}")

    def _running(self, name: str) -> dict[str, str]:
        """Flink's word for the state of each of its jobs of a name that have not ended, by their ids."""
        jobs = self._get("jobs/overview")["jobs"]
        return {job["jid"]: job["state"] for job in jobs if job["name"] == name and job["state"] not in ENDED}

    def cancel(self, name: str, *, wait: bool = False) -> None:
        """Cancels the jobs of a name, and may wait until nothing of them runs; a NpyflowError if one goes on."""
        for number in self._running(name):
            with contextlib.suppress(urllib.error.HTTPError):  # it has ended meanwhile
                self._request("PATCH", f"jobs/{number}?mode=cancel")
        end = time.monotonic() + END_SECONDS
        while wait and (left := self._running(name)):
            if time.monotonic() > end:
                number, state = next(iter(left.items()))
                raise NpyflowError(f"{self.url}: expected job {number} to end; found it {state}")
            time.sleep(0.5)

    def _get(self, path: str) -> Any:
        return json.loads(self._request("GET", path))

    def _request(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(f"{self.url}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            return bytes(response.read())


def job_name(root: str) -> str:
    """The name of the jobs that write to a directory, by which an earlier one is found again.

    A job outlives the program that has sent it; what it writes would go under a later one's feet.
    """
    return f"npyflow-{hashlib.blake2b(files.absolute(root).encode(), digest_size=8).hexdigest()}"


def complete(arguments: Sequence[str]) -> list[str]:
    """Adds to the options of a job on a cluster those that the user has left open; others stay as they are.

    Raises:
        ConfigError: If the cluster does not answer, or where its workers run is not said and cannot be guessed.
    """
    cluster = Cluster.of(arguments)
    if cluster is None:
        return list(arguments)
    values = _values(arguments)
    slots = cluster.task_managers()
    kind = values.get("--environment_type", "LOOPBACK" if cluster.is_here else "").upper()
    if kind not in WORKERS and not cluster.is_here:
        expected = f"expected {', '.join(WORKERS[:-1])} or {WORKERS[-1]}, workers that {cluster.url} can reach"
        raise ConfigError(f"--environment_type: {expected}; found {kind or 'none'}")
    defaults = {
        "--environment_type": kind,
        "--environment_cache_millis": KEPT_MILLIS,  # after the last stage
        "--environment_expiration_millis": KEPT_MILLIS,  # for stages that begin later
        "--execution_mode_for_batch": "BATCH",  # what is done need not be done again where a later stage fails
    }
    if slots:  # a cluster may start TaskManagers as they are needed
        defaults["--parallelism"] = sum(slots)
        parallelism = values.get("--parallelism", str(sum(slots)))
        if kind != "LOOPBACK" and parallelism.isdecimal():
            defaults["--sdk_worker_parallelism"] = max(min(int(parallelism), *slots), 1)
    if os.environ.get(JAR_VARIABLE):
        defaults["--flink_job_server_jar"] = os.environ[JAR_VARIABLE]
    added = [f"{name}={value}" for name, value in defaults.items() if name not in values]
    # Beam would list the packages that are installed here and send the list, which no worker of ours looks at.
    return [*arguments, *added, "--flink_submit_uber_jar", "--experiments=disable_logging_submission_environment"]


def _values(arguments: Sequence[str]) -> dict[str, str]:
    pairs = (argument.partition("=") for argument in arguments)
    return {name: value for name, _, value in pairs}


def failure(text: str, url: str) -> WorkerError:
    """What a job's failure means for whoever has started it, as far as the cluster knows.

    The stack trace that the cluster shows ends with that of the worker, if a worker has failed; it may have recorded a
    better error. Otherwise the error is a ClusterError.
    """
    if re.search(r"NoResourceAvailableException|Timeout has occurred: \d+ ms", text):
        return ClusterError(f"{url}: expected as many free slots as --parallelism says; found fewer. {GOES_ON}")
    _, from_worker, trace = text.rpartition(FROM_WORKER)
    if from_worker:
        said = [line for line in trace.splitlines()[1:] if line[:1].strip()][:1]
    else:
        said = [line.removeprefix("Caused by: ") for line in text.splitlines() if line[:1].strip()][-1:]
    kind = WorkerError if from_worker else ClusterError
    error = kind(f"{url}: the job has failed: {said[0] if said else 'for no reason that the cluster tells'}. {GOES_ON}")
    error.__cause__ = RuntimeError(text)
    return error


def stop_earlier(arguments: Sequence[str], root: str) -> None:
    """Ends jobs that an earlier run has left at work on a directory: they go on where their program was killed.

    Errors are those of `Cluster.cancel`, a ConfigError where the cluster does not answer.
    """
    cluster = Cluster.of(arguments)
    if cluster is None:
        return
    try:
        cluster.cancel(job_name(root), wait=True)
    except OSError as error:
        raise ConfigError(f"{MASTER}: {cluster.url}: {error}") from error


@contextmanager
def cancelled_on_failure(cluster: Cluster, name: str) -> Iterator[None]:
    """Cancels the jobs of a name where what is inside fails, or is ended by Ctrl-C or SIGTERM.

    What Beam leaves among the temporary files of this machine is removed.
    """

    def cancel() -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):  # the cluster may be what has failed
            cluster.cancel(name)
        shutil.rmtree(temporary, ignore_errors=True)

    with temporary_directory("flink") as temporary, _before_the_end(cancel):
        before, tempfile.tempdir = tempfile.tempdir, temporary
        try:
            yield
        except BaseException:
            cancel()
            raise
        finally:
            tempfile.tempdir = before


@contextmanager
def _before_the_end(action: Callable[[], None]) -> Iterator[None]:
    """Does something before Ctrl-C or SIGTERM do what they did before."""
    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return
    before: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        action()
        signal.signal(number, before[number])
        if callable(before[number]):
            before[number](number, frame)
        else:
            os.kill(os.getpid(), number)

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
