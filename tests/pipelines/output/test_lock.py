"""One build at a time in an output: who comes second is told of the first, who comes after a kill is not."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pipelines.errors import OutputError
from pipelines.output import lock
from pipelines.output.directory import Output
from pipelines.output.lock import Holder, held
from pipelines.storage import directories, files
from tests.support.arrays import RamFileSystem, empty_ram

FORK = """
import os, sys, time
from pipelines.output.directory import Output
from pipelines.output.lock import held
with held(Output(sys.argv[1])):
    runs, says = os.pipe()
    if os.fork() == 0:
        os.write(says, b"x")
        os.execvp("true", ["true"]) if sys.argv[2] == "ends" else time.sleep(20)
        os._exit(0)
    os.read(runs, 1)  # what a forked process does first, to leave the lock, it has done
    if sys.argv[2] == "ends":
        os.wait()
    print("held", flush=True)
    time.sleep(60)
"""

HOLD = """
import sys, time
from pipelines.output.directory import Output
from pipelines.output.lock import held
with held(Output(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["local", "ram"])
def output(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Output]:
    empty_ram()
    yield Output(str(tmp_path / "out") if request.param == "local" else "ram://bucket/out")
    empty_ram()


@contextlib.contextmanager
def another_process(output: Output, program: str = HOLD, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, output.root, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def hold(output: Output) -> None:
    with held(output):
        pass


def test_it_is_there_while_it_is_held_and_leaves_nothing(output: Output) -> None:
    with held(output):
        found = Holder.loads(files.read_bytes(output.lock))
        assert found is not None
        assert (found.pid, found.gone) == (os.getpid(), False)
        with pytest.raises(OutputError, match=rf"expected no other build.* process {os.getpid()}, since 2\d\d\d-"):
            hold(output)
        assert files.exists(output.lock)
    assert not directories.list_names(output.root)
    assert not os.path.exists(output.root)
    with pytest.raises(ValueError, match="failed"), held(output):
        raise ValueError("failed")
    hold(output)


def test_another_process_is_named_and_one_that_was_killed_is_not_waited_for(tmp_path: pathlib.Path) -> None:
    output = Output(str(tmp_path / "out"))
    with another_process(output) as process:
        with pytest.raises(OutputError, match=rf"out: expected no other build.* process {process.pid}, since"):
            hold(output)
        process.kill()
        process.wait()
    assert files.exists(output.lock)
    hold(output)
    assert not files.exists(output.lock)


@pytest.mark.slow
@pytest.mark.parametrize("child", ["ends", "goes on"])
def test_a_forked_process_neither_ends_the_lock_nor_keeps_it(tmp_path: pathlib.Path, child: str) -> None:
    output = Output(str(tmp_path / "out"))
    with another_process(output, FORK, child) as process:
        with pytest.raises(OutputError, match=rf"out: expected no other build.* process {process.pid}, since"):
            hold(output)
        process.kill()
        process.wait()
        hold(output)
    assert not files.exists(output.lock)


def holder(**changes: object) -> Holder:
    return dataclasses.replace(Holder.this(), owner="another", **changes)  # type: ignore[arg-type]


def test_an_object_of_a_process_that_has_ended_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.0)
    output = Output("ram://bucket/out")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale = time.time() - 2 * lock.STALE_SECONDS
    for gone in (
        holder(pid=ended.pid),
        holder(started=1.0),  # the number is another process's by now
        holder(host="elsewhere", beat=stale),
    ):
        files.write_bytes(output.lock, gone.dumps())
        hold(output)
        assert not files.exists(output.lock)
    others = [b"what no build has written", *(holder(**{name: "7"}).dumps() for name in ("pid", "since", "beat"))]
    for other in others:
        files.write_bytes(output.lock, other)
        hold(output)


def test_an_object_of_another_machine_that_goes_on_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output("ram://bucket/out")
    files.write_bytes(output.lock, holder(host="elsewhere", pid=7).dumps())
    with pytest.raises(OutputError, match="found one on elsewhere, process 7, since"):
        hold(output)
    assert files.exists(output.lock)
    empty_ram()


def test_an_object_whose_writing_seemed_to_fail_is_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store wrote it, its answer was lost, and the second attempt found an object."""

    def create_new(path: str, data: bytes) -> bool:
        files.write_bytes(path, data)
        return False

    monkeypatch.setattr(files, "create_new", create_new)
    output = Output("ram://bucket/out")
    with held(output):
        assert files.exists(output.lock)
    assert not files.exists(output.lock)


def test_an_object_says_that_the_build_goes_on_and_is_left_to_who_has_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    output = Output("ram://bucket/out")
    with held(output):
        first = Holder.loads(files.read_bytes(output.lock))
        assert first is not None
        end = time.monotonic() + 20
        while Holder.loads(files.read_bytes(output.lock)) in (first, None):
            assert time.monotonic() < end
            time.sleep(0.01)
        other = holder(host="elsewhere").dumps()
        files.write_bytes(output.lock, other)
        time.sleep(0.1)
        files.write_bytes(output.lock, other)
    assert RamFileSystem.contents[output.lock] == other
    empty_ram()
