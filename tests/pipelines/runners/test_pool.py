"""A pool of worker processes, forked and spawned."""

import importlib.util
import operator
import os
import signal
import struct
import subprocess
import sys
import time
from multiprocessing.connection import Connection

import pytest

from pipelines import counters
from pipelines.errors import ConfigError, DataError, WorkerError
from pipelines.runners import pool
from pipelines.runners.pool import WorkerPool, choose_workers, started
from tests.support import commands

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")


@pytest.fixture(params=["fork", "spawn"])
def start(request, monkeypatch):
    """Starts a pool of so many workers, which end with the test."""
    monkeypatch.setattr(pool, "can_fork", lambda: request.param == "fork")
    pools = []

    def begin(count, shared=None):
        pools.append(WorkerPool(shared))
        return pools[-1].start(count)

    yield begin
    for begun in pools:
        begun.__exit__()


@pytest.fixture
def forks(monkeypatch):
    """Lets pools fork, whatever this process has used."""
    monkeypatch.setattr(pool, "can_fork", lambda: True)


def process_of(item, given, *arguments):
    time.sleep(0.02)  # long enough that one process does not do all
    return item, given, arguments, os.getpid()


def count(item, given):
    counters.advance("stage", rows=item, size=10 * item)
    return item


def fail_at_three(item, given):
    if item == 3:
        raise DataError(f"row {item}")
    return item


def end_at_three(item, given):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def sleep(item, given):
    time.sleep(60)


def test_workers_share_the_items_and_results_come_in_order(start):
    found = list(start(3, "shared").map(process_of, range(20), "more"))
    assert [item for item, *_ in found] == list(range(20))
    assert {arguments for *_, arguments, _ in found} == {("more",)}
    assert {shared for _, shared, *_ in found} == {"shared"}
    processes = {process for *_, process in found}
    assert len(processes) == 3
    assert os.getpid() not in processes


def test_few_items_are_shared_too(start):
    found = list(start(2).map(process_of, range(2)))
    assert len({process for *_, process in found}) == 2


def test_what_is_shared_is_not_sent_to_a_fork(forks):
    with WorkerPool(lambda: "no function of a module, which pickle refuses") as workers:
        assert list(workers.start(1).map(count, [1])) == [1]


def test_work_there_is_counted_here(start):
    with counters.counting() as counter:
        assert sum(start(2).map(count, [1, 2, 3])) == 6
        assert counter.read("stage") == counters.Count(rows=6, size=60)


def test_an_error_is_raised_in_its_place(start):
    results = start(2).map(fail_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="row 3"):
        next(results)


class TwoPartError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fail_with_what_pickle_refuses(item, given):
    raise TwoPartError(1, 2)


def give_what_pickle_refuses(item, given):
    return lambda: item


def test_what_cannot_be_pickled_is_an_error_of_the_call(start):
    workers = start(1)
    with pytest.raises(RuntimeError, match="TwoPartError: 1 and 2"):
        list(workers.map(fail_with_what_pickle_refuses, [1]))
    with pytest.raises(AttributeError, match="pickle"):
        list(workers.map(give_what_pickle_refuses, [1]))
    assert list(workers.map(count, [7])) == [7]


def end_once(item, given, directory):
    """Ends the first process that works on item 3; nobody works on it a third time."""
    if item == 3:
        try:
            os.mkdir(f"{directory}/ended")
        except FileExistsError:
            os.mkdir(f"{directory}/done again")
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return item, os.getpid()


@pytest.mark.parametrize("count", [2, 3])
def test_what_a_killed_worker_had_at_hand_is_done_by_another(start, count, tmp_path):
    workers = start(count)
    found = list(workers.map(end_once, range(30), str(tmp_path)))
    left = {process for *_, process in workers.map(process_of, range(30))}
    assert [item for item, _ in found] == list(range(30))
    assert (tmp_path / "done again").exists()
    assert len(left) == count - 1


def test_a_call_that_ends_its_worker_twice_is_an_error_that_says_what_to_do(start):
    workers = start(3)
    results = workers.map(end_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(WorkerError, match=r"killed by SIGKILL, and another one .* before; where memory .*--workers=1"):
        next(results)
    assert list(workers.map(count, [7, 8])) == [7, 8]  # the third is still there


def test_where_no_worker_is_left_the_error_says_so(start):
    workers = start(1)
    with pytest.raises(WorkerError, match=r"killed, and no other one is left; where memory .*--workers=1"):
        list(workers.map(end_at_three, range(6)))
    with pytest.raises(WorkerError, match="no other one is left"):
        list(workers.map(count, [1]))


def test_a_worker_that_is_killed_while_it_waits_is_not_missed(start):
    workers = start(2)
    assert list(workers.map(count, range(4))) == [0, 1, 2, 3]
    victim = workers.processes[0]
    os.kill(victim, signal.SIGKILL)
    found = list(workers.map(process_of, range(10)))
    assert [item for item, *_ in found] == list(range(10))
    assert victim not in {process for *_, process in found}


def large(item, given):
    return bytes(2**20)


def test_a_worker_that_is_killed_while_it_sends_a_result_is_not_waited_for(forks, monkeypatch, tmp_path):
    """Nobody but the worker holds its end of the pipe, so that half a result is seen as what it is."""
    parent, send = os.getpid(), Connection._send_bytes

    def send_half(self, data):
        if os.getpid() != parent and len(data) > 2**20:
            try:
                (tmp_path / "half").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.write(self.fileno(), struct.pack("!i", len(data)) + bytes(data[: len(data) // 2]))
                os.kill(os.getpid(), signal.SIGKILL)
        send(self, data)

    monkeypatch.setattr(Connection, "_send_bytes", send_half)
    with started(3, None, ()) as workers:
        assert [len(found) for found in workers.map(large, range(6))] == [2**20] * 6
    assert (tmp_path / "half").exists()


def stop_once(item, given, path):
    """Is stopped over an item, the first time."""
    try:
        os.close(os.open(f"{path}-{item}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return item
    if item == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    return item


def stop(item, given):
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("killable", [True, False])
def test_a_worker_that_is_stopped_is_given_up_and_others_do_its_work(start, monkeypatch, tmp_path, killable):
    monkeypatch.setenv(pool.TIMEOUT_VARIABLE, "0.5")
    with counters.counting() as counter:
        workers = start(2)
        if not killable:  # a process that hangs in a call of the system's
            monkeypatch.setattr(pool, "_kill", lambda _: None)
        found = list(workers.map(stop_once, range(6), str(tmp_path / "begun")))
        monkeypatch.undo()
    assert found == list(range(6))
    assert counter.read(counters.STUCK).rows == 1


def test_what_stops_every_worker_is_an_error(start, monkeypatch):
    monkeypatch.setenv(pool.TIMEOUT_VARIABLE, "0.5")
    with pytest.raises(
        WorkerError, match=r"did nothing for 0\.5 s, and another one was lost over the same work before"
    ):
        list(start(3).map(stop, [0]))


def think(item, given):
    end = time.process_time() + 1.5
    while time.process_time() < end:
        pass
    return item


def test_a_worker_that_takes_long_is_not_given_up(start, monkeypatch):
    monkeypatch.setenv(pool.TIMEOUT_VARIABLE, "0.5")
    assert list(start(2).map(think, range(2))) == [0, 1]


@pytest.mark.parametrize("said", ["soon", "0", "nan"])
def test_a_time_that_cannot_be(monkeypatch, said):
    monkeypatch.setenv(pool.TIMEOUT_VARIABLE, said)
    with pytest.raises(ConfigError, match=f"NPYFLOW_WORKER_TIMEOUT: expected seconds, above 0; found '{said}'"):
        WorkerPool(None)


def test_leaving_the_context_ends_the_processes_at_once(start):
    workers = start(2)
    with workers:
        results = workers.map(sleep, range(4))
        processes = workers.processes
    assert results is not None
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


PROGRAM = """
import os, signal, sys, time
from pipelines.runners import pool
from tests.pipelines.runners.test_pool import sleep
pool.can_fork = lambda: {forks}
workers = pool.WorkerPool(None).start_early(2).start(2)
results = workers.map(sleep, range(4))
print(*workers.processes, flush=True)
time.sleep(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("forks", [True, False])
def test_workers_end_with_their_parent(forks):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = [sys.executable, "-c", PROGRAM.format(forks=forks)]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, env=environment, timeout=60)
    processes = [int(process) for process in done.stdout.split()]
    assert len(processes) == (4 if forks else 2)
    end = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{process}") for process in processes):
        assert time.monotonic() < end
        time.sleep(0.05)


def argument(item, given, said):
    return [(item, said)]


def test_results_are_merged_as_they_come(start):
    merged = start(2).reduce(operator.add, argument, [1, 2, 3], "said")
    assert merged.result(60) == [(1, "said"), (2, "said"), (3, "said")]


def test_an_error_is_that_of_what_is_merged(start):
    merged = start(2).reduce(operator.add, fail_at_three, [2, 3, 4])
    with pytest.raises(DataError, match="row 3"):
        merged.result(60)


def end_early(item, given, path):
    """Ends the process, unless others have come."""
    if item == 2 and not os.path.exists(path):
        os.kill(os.getpid(), signal.SIGKILL)
    return [item]


def test_what_killed_workers_had_waits_for_those_who_come_later(forks, tmp_path):
    path = tmp_path / "others"
    with WorkerPool(None) as workers:
        (early,) = workers.start_early(1).processes
        merged = workers.reduce(operator.add, end_early, [1, 2, 3], str(path))
        end = time.monotonic() + 60
        while os.path.exists(f"/proc/{early}/exe"):  # a zombie has none
            assert time.monotonic() < end
            time.sleep(0.01)
        path.touch()
        workers.start(2)
        assert merged.result(60) == [1, 2, 3]


def test_what_kills_an_early_worker_and_a_later_one_is_an_error(forks):
    with WorkerPool(None) as workers:
        merged = workers.start_early(1).reduce(operator.add, end_at_three, [3, 4])
        time.sleep(0.2)
        assert not merged.done()
        workers.start(1)
        with pytest.raises(WorkerError, match="another one was lost over the same work before"):
            merged.result(60)


def wait_for_file(item, given, path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return [(item, os.getpid())]


def test_what_has_not_been_begun_is_done_by_others_who_come_later(forks, tmp_path):
    path = tmp_path / "go on"
    with WorkerPool(None) as workers:
        (early,) = workers.start_early(1).processes
        merged = workers.reduce(operator.add, wait_for_file, range(9), str(path))
        end = time.monotonic() + 60
        while len(workers._workers[0].tasks) < pool.AHEAD:
            assert time.monotonic() < end
            time.sleep(0.01)
        _, *later = workers.start(2).processes
        path.touch()
        found = merged.result(60)
    assert [item for item, _ in found] == list(range(9))
    by = [process for _, process in found]
    assert by[:2] == [early] * 2  # it had the first two at hand
    assert set(by[2:]) <= set(later)


def test_spawned_workers_stay_when_more_are_started(monkeypatch):
    monkeypatch.setattr(pool, "can_fork", lambda: False)
    with WorkerPool(None) as workers:
        early = workers.start_early(1).processes
        assert workers.start(2).processes[:1] == early
        assert len({process for *_, process in workers.map(process_of, range(20))}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("use", ["pass", "tf.zeros(1)"])
def test_whether_tensorflow_was_used(use):
    program = f"import tensorflow as tf\nfrom pipelines.runners.worker import tensorflow_was_used\n{use}\n"
    program += "print(tensorflow_was_used(), tensorflow_was_used(), int(tf.ones([])))"
    shown = commands.run(code=program).stdout
    used = use != "pass"
    assert shown == f"{used} {used} 1\n"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_workers_are_forked_until_jax_was_used():
    program = "import tensorflow, jax\nfrom pipelines.runners.worker import can_fork\nbefore = can_fork()\n"
    program += "jax.numpy.ones(1)\nprint(before, can_fork())"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown == "True False\n"


def test_as_many_workers_as_cores_or_tasks():
    cores = len(os.sched_getaffinity(0))
    assert choose_workers(1) == 1
    assert choose_workers(0) == 1
    assert 1 <= choose_workers(10_000) <= cores
