"""Workers have the versions of the driver, or say that they do not."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from pipelines.config.schema import DatasetConfig
from pipelines.errors import WorkerError
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.runners import handoff, versions
from pipelines.runners.failures import raising_recorded
from pipelines.runners.handoff import hand_over
from pipelines.sources.table import scan
from tests.support.arrays import write_files

DRIVER = {"npyflow": "1.0", "python": "3.11.7", "numpy": "2.4.6", "tensorflow": "2.21.0"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"python": "3.11.9"}, []),
        ({"python": "3.12.7"}, ["python 3.11.7 on the driver, 3.12.7 on the worker"]),
        ({"numpy": "2.4.5", "npyflow": "1.1"}, ["npyflow 1.0 on the driver, 1.1", "numpy 2.4.6 on the driver, 2.4.5"]),
    ],
)
def test_what_differs(changed, said):
    found = versions.compare(DRIVER, DRIVER | changed)
    assert len(found) == len(said)
    for line, begin in zip(found, said, strict=True):
        assert line.startswith(begin)


def test_a_package_that_only_one_side_has_differs():
    assert versions.compare(DRIVER, {**DRIVER, "new": "1"}) == ["new none on the driver, 1 on the worker"]


def test_what_was_stamped_comes_back():
    for data in (b"", b"\n", b"{}\nabc\n"):
        assert versions.unstamp(versions.stamp(data), "plan") == data


def test_what_was_never_stamped_is_an_error():
    for data in (b"", b"abc", b"abc\ndef", b"3\ndef", pickle.dumps(0)):
        with pytest.raises(WorkerError, match="plan: expected the plan of npyflow"):
            versions.unstamp(data, "plan")


def hand_plan_over(tmp_path, monkeypatch, **others):
    """A plan that a driver of other versions has handed over, and the pickle of the reference."""
    source = write_files(tmp_path / "src", {"x.npy": np.arange(40.0).reshape(20, 2)})
    table = scan(source, DatasetConfig())
    plan = make_plan(table, resolve_config(DatasetConfig(), table))
    here = versions.versions()
    with monkeypatch.context() as patch:
        patch.setattr(versions, "versions", lambda: here | others)
        return pickle.dumps(hand_over(plan, str(tmp_path / "plan.pickle")))


def test_a_worker_of_the_same_versions_gets_the_plan(tmp_path, monkeypatch):
    pickled = hand_plan_over(tmp_path, monkeypatch)
    monkeypatch.setattr(handoff, "_loaded", {})
    assert pickle.loads(pickled).load().table.rows == 20


def test_a_worker_of_other_versions_says_what_differs_before_it_has_a_plan(tmp_path, monkeypatch):
    pickled = hand_plan_over(tmp_path, monkeypatch, numpy="1.0", tensorflow="1.15")
    monkeypatch.setattr(handoff, "_loaded", {})
    reference = pickle.loads(pickled)
    monkeypatch.setattr(pickle, "loads", None)  # nothing of the plan is read
    with pytest.raises(WorkerError) as found:
        reference.load()
    message = str(found.value)
    assert "plan.pickle: expected the versions of the driver" in message
    assert f"numpy 1.0 on the driver, {np.__version__} on the worker; tensorflow 1.15 on the driver" in message
    assert sys.executable in message


def test_another_process_says_it_and_the_driver_shows_one_line(tmp_path, monkeypatch):
    """As a worker does that a runner starts, which shows its traceback: as text."""
    pickled = hand_plan_over(tmp_path, monkeypatch, **{"tensorflow-transform": "0.1"})
    (tmp_path / "pickled").write_bytes(pickled)
    program = f"""
import pickle
from pipelines.runners.failures import Recorded
Recorded(id, {str(tmp_path / "errors")!r})(pickle.load(open({str(tmp_path / "pickled")!r}, "rb")))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run():
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)

    with pytest.raises(WorkerError) as found, raising_recorded(str(tmp_path / "errors")):
        run()
    assert "tensorflow-transform 0.1 on the driver" in str(found.value)
    assert "\n" not in str(found.value)


def test_what_is_compared_is_what_the_manifest_says(tmp_path, monkeypatch):
    hand_plan_over(tmp_path, monkeypatch)
    line = (tmp_path / "plan.pickle").read_bytes().partition(b"\n")[0]
    assert json.loads(line) == versions.versions()
    assert {"npyflow", "python", *versions.PACKAGES} == set(versions.versions())
