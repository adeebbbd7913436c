"""Temporary directories go, whatever becomes of the process that made them."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import pytest

from pipelines.storage.temporary import PREFIX, temporary_directory

PROGRAM = """
import pathlib, sys, time
from pipelines.storage.temporary import temporary_directory
with temporary_directory("test") as directory:
    pathlib.Path(directory, "file").touch()
    print(directory, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def above(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_directory_goes_when_it_was_used(above):
    with temporary_directory("test") as directory:
        assert directory.startswith(f"{above}/{PREFIX}test-")
        assert os.listdir(directory) == []
    with pytest.raises(KeyError), temporary_directory("test"):
        raise KeyError
    assert list(above.iterdir()) == []


def test_what_a_killed_process_has_left_goes_with_the_next_and_nothing_else(above):
    (above / f"{PREFIX}notes").mkdir()
    processes = [subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    left, used = (pathlib.Path(process.stdout.readline().strip()) for process in processes)
    try:
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait()
        assert (left / "file").exists()
        with temporary_directory("test"):
            assert not left.parent.exists()
            assert (used / "file").exists()
            assert (above / f"{PREFIX}notes").exists()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
