"""Errors of workers are raised again by the driver, whatever the runner makes of them."""

import errno
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import traceback

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.errors import ClusterError, ConfigError, DataError, WorkerError
from pipelines.runners import failures
from pipelines.runners.beam import run_pipeline
from pipelines.runners.failures import Recorded, errors_beside, raising_recorded, recorded, recording

THREADS = ("--direct_num_workers=2",)


def raise_it(error):
    raise error


def fail(error, directory, shown=None):
    """Fails as a worker does, and then as its runner."""
    with pytest.raises(type(error)), recording(directory):
        raise error
    if shown is not None:
        raise shown


@pytest.fixture
def directory(tmp_path):
    """Where errors are recorded; nothing that this process remembers is left of it."""
    yield str(tmp_path / "errors")
    failures._raised.pop(str(tmp_path / "errors"), None)


def as_another_process_sees(directory):
    failures._raised.pop(directory)
    return recorded(directory)


@pytest.mark.parametrize("kind", [DataError, WorkerError, ConfigError])
def test_an_error_of_npyflow_is_the_same_elsewhere(kind, directory):
    error = kind("x.npy: expected 'a'\n; found b")
    fail(error, directory)
    assert recorded(directory) is error
    found = as_another_process_sees(directory)
    assert type(found) is kind
    assert str(found) == str(error)


@given(code=st.sampled_from(sorted(errno.errorcode)), path=st.text(min_size=1))
@example(code=errno.ENOSPC, path="a 'b' \"c\": 'd' -> \\")
def test_an_error_of_a_file_is_the_same_elsewhere(code, path, tmp_path_factory):
    error, directory = OSError(code, os.strerror(code), path), str(tmp_path_factory.mktemp("errors"))
    fail(error, directory)
    assert recorded(directory) is error
    found = as_another_process_sees(directory)
    assert type(found) is type(error)
    assert found.args == error.args
    assert found.filename == path


def test_of_a_rename_the_new_name_is_said(directory):
    fail(OSError(errno.EISDIR, "Is a directory", "old", None, "new"), directory)
    assert as_another_process_sees(directory).filename == "new"


@pytest.mark.parametrize("error", [KeyError("y"), OSError("no file"), ValueError("x")])
def test_another_error_is_left_to_the_runner(error, directory):
    fail(error, directory)
    assert recorded(directory) is None
    assert as_another_process_sees(directory) is None
    with pytest.raises(RuntimeError, match="as the runner says"), raising_recorded(directory):
        fail(error, directory, RuntimeError("as the runner says"))


def test_an_error_of_a_file_that_led_to_another_is_not_what_failed(directory):
    try:
        raise_it(FileNotFoundError(errno.ENOENT, "No such file", "x"))
    except OSError:
        fail(KeyError("y"), directory)
    assert recorded(directory) is None


def test_the_last_error_counts(directory):
    for said in ("first", "second", "third"):
        fail(DataError(said), directory)
    assert str(as_another_process_sees(directory)) == "third"


def test_what_an_earlier_run_has_recorded_is_forgotten(directory):
    fail(DataError("early"), directory)
    with pytest.raises(RuntimeError, match="late"), raising_recorded(directory):
        raise RuntimeError("late")
    assert not os.path.exists(directory)


def test_a_cluster_that_fails_says_so_itself(directory):
    with pytest.raises(ClusterError, match="gone"), raising_recorded(directory):
        fail(OSError(errno.EISDIR, "Is a directory", "x"), directory, ClusterError("gone"))


def test_where_nothing_can_be_written_the_text_of_the_runner_is_shown(tmp_path):
    (tmp_path / "file").touch()
    directory = str(tmp_path / "file" / "errors")
    fail(DataError("x"), directory)
    assert str(recorded(directory)) == "x"  # in the process itself
    assert as_another_process_sees(directory) is None


def test_errors_lie_beside_the_plan():
    assert errors_beside("s3://bucket/out/_build/plan.pickle") == "s3://bucket/out/_build/errors"


def check(number, path):
    if number == 3:
        raise_it(DataError(f"{path}: expected less; found {number}"))
    return number


def test_threads_share_the_work_without_a_port(monkeypatch):
    monkeypatch.setattr(worker_handlers, "GrpcServer", None)

    def thread(number):
        time.sleep(0.01)
        return threading.get_ident()

    with run_pipeline(THREADS) as pipeline:
        threads = pipeline | beam.Create(range(60)) | beam.Reshuffle() | beam.Map(thread) | beam.combiners.ToSet()
        assert_that(threads | beam.Map(len), equal_to([2]))


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), THREADS], ids=["one thread", "threads"])
def test_an_error_in_a_pipeline_is_the_workers_own(options, directory):
    numbers = beam.Create(range(8))
    with (
        pytest.raises(DataError, match=r"^x\.npy: expected less; found 3$"),
        run_pipeline(options, errors=directory) as pipeline,
    ):
        pipeline | numbers | beam.Map(Recorded(check, directory), "x.npy")
    (record,) = pathlib.Path(directory).iterdir()
    assert json.loads(record.read_text())["error"] == "DataError"


def test_a_worker_elsewhere_records_what_it_shows(directory):
    program = (
        "from pipelines.errors import DataError\n"
        "from pipelines.runners.failures import Recorded\n"
        "from tests.pipelines.runners.test_failures import raise_it\n"
        f"Recorded(raise_it, {directory!r})(DataError('there'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run():
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)

    with pytest.raises(DataError, match=r"^there$") as found, raising_recorded(directory):
        run()
    assert "Traceback" in "".join(traceback.format_exception(found.value))  # for --debug
