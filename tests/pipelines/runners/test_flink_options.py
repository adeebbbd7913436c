"""What a job on a Flink cluster is given, and what is said when there is no cluster, without one."""

import contextlib
import http.server
import json
import socket
import threading

import pytest

from pipelines.cli import main
from pipelines.errors import ClusterError, ConfigError, DataError
from pipelines.runners.beam import pipeline_options
from pipelines.runners.failures import raising_recorded, recording
from pipelines.runners.flink import JAR_VARIABLE, Cluster, complete, failure, job_name, stop_earlier

RUNNER = "--runner=FlinkRunner"


@contextlib.contextmanager
def answering(pages):
    """A server on loopback with some pages, and the list of what it was asked to change."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path)
            self.send_response(200 if page is not None else 404)
            self.end_headers()
            self.wfile.write(page.encode() if isinstance(page, str) else json.dumps(page).encode())

        def do_PATCH(self):
            changed.append(self.path)
            for job in pages["/jobs/overview"]["jobs"]:
                if job["jid"] in self.path:
                    job["state"] = "CANCELED"
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_):
            pass

    changed = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", changed
        server.shutdown()


def managers(*slots):
    return {"/taskmanagers": {"taskmanagers": [{"slotsNumber": each} for each in slots]}}


@pytest.fixture(autouse=True)
def no_jar(monkeypatch):
    monkeypatch.delenv(JAR_VARIABLE, raising=False)


def added(arguments):
    found = complete(arguments)
    assert found[: len(arguments)] == list(arguments)
    return dict(each.partition("=")[::2] for each in found[len(arguments) :])


def test_all_slots_are_used_and_workers_are_in_this_process(monkeypatch):
    monkeypatch.setenv(JAR_VARIABLE, "some.jar")
    with answering(managers(2, 3)) as (address, _):
        found = added([RUNNER, f"--flink_master={address}"])
    assert found["--parallelism"] == "5"
    assert found["--environment_type"] == "LOOPBACK"
    assert found["--flink_job_server_jar"] == "some.jar"
    assert "--sdk_worker_parallelism" not in found


def test_a_task_manager_has_as_many_workers_as_slots_that_are_used():
    with answering(managers(4, 4)) as (address, _):
        arguments = [RUNNER, f"--flink_master={address}", "--environment_type=PROCESS"]
        assert added(arguments)["--sdk_worker_parallelism"] == "4"
        assert added([*arguments, "--parallelism=3"])["--sdk_worker_parallelism"] == "3"


def test_a_cluster_that_starts_task_managers_later_decides_the_parallelism():
    with answering(managers()) as (address, _):
        assert "--parallelism" not in added([RUNNER, f"--flink_master=http://{address}/"])


@pytest.mark.parametrize("name", ["--parallelism=1", "--environment_cache_millis=0", "--flink_job_server_jar=x.jar"])
def test_what_the_user_says_stays(name, monkeypatch):
    monkeypatch.setenv(JAR_VARIABLE, "some.jar")
    with answering(managers(2)) as (address, _):
        assert name.partition("=")[0] not in added([RUNNER, f"--flink_master={address}", name])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--runner=DirectRunner", "--flink_master=127.0.0.1:1"],
        [RUNNER],
        [RUNNER, "--flink_master=[local]"],
        [RUNNER, "--flink_master=127.0.0.1:1", "--job_endpoint=localhost:8099"],
    ],
)
def test_where_no_cluster_is_named_nothing_is_added(arguments):
    assert complete(arguments) == arguments


def test_loopback_is_refused_where_the_cluster_could_not_reach_it(monkeypatch):
    monkeypatch.setattr(Cluster, "task_managers", lambda self: [2])
    for kind, found in (("", "none"), ("--environment_type=LOOPBACK", "LOOPBACK")):
        arguments = [RUNNER, "--flink_master=flink.example:8081", *filter(None, [kind])]
        with pytest.raises(ConfigError, match=rf"--environment_type: expected PROCESS.*found {found}"):
            complete(arguments)
    assert complete([RUNNER, "--flink_master=flink.example:8081", "--environment_type=DOCKER"])


def free_address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def test_no_cluster_is_one_line_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    address = free_address()
    command = ["build", str(tmp_path / "src"), str(tmp_path / "out"), RUNNER, f"--flink_master={address}"]
    assert main.main(command) == 2
    expected = f"--flink_master: expected the address HOST:PORT of a Flink cluster; http://{address}: found"
    assert capsys.readouterr().err.startswith(f"npyflow: {expected} Connection refused")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pages", [{"/taskmanagers": "<html>"}, {"/taskmanagers": {}}, {}])
def test_another_server_is_no_cluster(pages):
    with answering(pages) as (address, _), pytest.raises(ConfigError, match="expected the address HOST:PORT"):
        complete([RUNNER, f"--flink_master={address}"])


def test_java_options_are_known_on_a_cluster_only():
    option = "--environment_expiration_millis=1000"
    with answering(managers(1)) as (address, _):
        assert pipeline_options([RUNNER, f"--flink_master={address}", option])
    with pytest.raises(ConfigError, match="unknown option --environment_expiration_millis"):
        pipeline_options([option])


def test_only_the_jobs_of_the_same_directory_are_cancelled(tmp_path):
    own, other = job_name(str(tmp_path / "out")), job_name(str(tmp_path / "other"))
    assert own != other
    states = [("a", own, "RUNNING"), ("b", other, "RUNNING"), ("c", own, "FINISHED"), ("d", own, "RESTARTING")]
    jobs = [{"jid": number, "name": name, "state": state} for number, name, state in states]
    with answering({**managers(1), "/jobs/overview": {"jobs": jobs}}) as (address, changed):
        stop_earlier([RUNNER, f"--flink_master={address}"], str(tmp_path / "out"))
    assert changed == ["/jobs/a?mode=cancel", "/jobs/d?mode=cancel"]


JAVA = """org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTimeStrategy
\tat org.apache.flink.runtime.executiongraph.failover.ExecutionFailureHandler.handleFailure(X.java:180)
Caused by: java.lang.Exception: The user defined 'open()' method caused an exception: {cause}
\tat java.base/java.lang.Thread.run(Thread.java:840)
"""

PYTHON = """Error received from SDK harness for instruction 4: Traceback (most recent call last):
  File "worker.py", line 1, in process
    raise it
{error} [while running 'Write/WriteShards/Call-ptransform-7']

"""


def test_an_error_of_npyflow_is_raised_again(tmp_path):
    text = JAVA.format(cause=PYTHON.format(error="pipelines.errors.DataError: a: expected b; found c"))
    directory = str(tmp_path / "errors")

    def run():
        with pytest.raises(DataError), recording(directory):
            raise DataError("a: expected b; found c")
        raise failure(text, "http://flink:8081")

    with pytest.raises(DataError, match=r"^a: expected b; found c$"), raising_recorded(directory):
        run()


def test_another_error_of_a_worker_is_named():
    text = JAVA.format(cause=PYTHON.format(error="OSError: [Errno 28] No space left on device"))
    assert "the job has failed: OSError: [Errno 28] No space left on device [while" in str(failure(text, "http://f:1"))


def test_too_few_slots_are_named():
    cause = "org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException: Could not acquire"
    error = failure(JAVA.format(cause=cause), "http://f:1")
    assert isinstance(error, ClusterError)
    assert "expected as many free slots as --parallelism says" in str(error)


def test_a_failure_of_the_cluster_is_its_last_cause():
    text = JAVA.format(cause="x") + "Caused by: java.lang.OutOfMemoryError: Metaspace\n\tat a.B.c(D.java:1)\n"
    assert isinstance(failure(text, "http://f:1"), ClusterError)
    shown = str(failure(text, "http://f:1"))
    assert shown.startswith("http://f:1: the job has failed: java.lang.OutOfMemoryError: Metaspace. The same command")
    assert "no reason" in str(failure("", "http://f:1"))
