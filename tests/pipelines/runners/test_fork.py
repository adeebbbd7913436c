"""Forked workers."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pipelines import counters
from pipelines.errors import DataError, WorkerError
from pipelines.runners.fork import Job, Workers, choose_workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")


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


def test_processes_share_the_items_and_results_come_in_order():
    given = object()  # cannot be equal to what was pickled
    with Workers(3, [given, "given"]) as workers:
        found = list(workers.share(process_of, range(20), "more"))
    assert [item for item, *_ in found] == list(range(20))
    assert {arguments for *_, arguments, _ in found} == {("more",)}
    processes = {process for *_, process in found}
    assert len(processes) == 3
    assert os.getpid() not in processes


def test_what_is_given_is_not_sent():
    with Workers(1, lambda: "no function of a module, which pickle refuses") as workers:
        assert list(workers.share(count, [1])) == [1]


def test_work_there_is_counted_here():
    with counters.counting() as counter, Workers(2, None) as workers:
        assert sum(workers.share(count, [1, 2, 3])) == 6
        assert counter.read("stage") == counters.Count(rows=6, size=60)


def test_an_error_is_raised_in_its_place():
    with Workers(2, None) as workers:
        results = workers.share(fail_at_three, range(6))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataError, match="row 3"):
            next(results)


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
def test_what_a_killed_process_had_at_hand_is_done_by_another(count, tmp_path):
    with Workers(count, None) as workers:
        found = list(workers.share(end_once, range(30), str(tmp_path)))
        left = {process for _, process in workers.share(end_once, range(100, 130), str(tmp_path))}
    assert [item for item, _ in found] == list(range(30))
    assert (tmp_path / "done again").exists()
    assert len(left) == count - 1


def test_a_call_that_ends_its_process_twice_is_an_error_that_says_what_to_do():
    with Workers(3, None) as workers:
        results = workers.share(end_at_three, range(6))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(
            WorkerError, match=r"killed by SIGKILL, and another one .* before; where memory .*--workers=1"
        ):
            next(results)
        assert list(workers.share(count, [7, 8])) == [7, 8]  # the third is still there


def test_where_no_process_is_left_the_error_says_so():
    with Workers(1, None) as workers:
        with pytest.raises(WorkerError, match=r"killed, and no other one is left; where memory .*--workers=1"):
            list(workers.share(end_at_three, range(6)))
        with pytest.raises(WorkerError, match="no other one is left"):
            list(workers.share(count, [1]))


def test_a_process_that_is_killed_while_it_waits_is_not_missed():
    with Workers(2, None) as workers:
        assert list(workers.share(count, range(4))) == [0, 1, 2, 3]
        victim = workers.processes[0]
        os.kill(victim, signal.SIGKILL)
        found = list(workers.share(process_of, range(10)))
    assert [item for item, *_ in found] == list(range(10))
    assert victim not in {process for *_, process in found}


def test_leaving_the_context_ends_the_processes_at_once():
    began = time.monotonic()
    with Workers(2, None) as workers:
        results = workers.share(sleep, range(4))
        processes = workers.processes
    assert time.monotonic() - began < 10
    assert results is not None
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def join(a, b):
    return a + b


def argument(item, given, said):
    return [(item, said)]


def test_a_job_that_was_begun_is_not_done_again_and_is_merged():
    with Workers(2, None) as workers:
        begun = Job(workers, argument, [1, 2, 3]).begin("early", merge=join)
        later = Job(workers, argument, [1, 2])
        assert list(Job.run(begun.number, "late")) == [[(1, "early"), (2, "early"), (3, "early")]]
        assert list(Job.run(later.number, "late")) == [[(1, "late")], [(2, "late")]]
        with pytest.raises(KeyError):
            Job.run(later.number)


def test_an_error_of_a_job_that_was_begun_is_raised_where_it_is_run():
    with Workers(2, None) as workers:
        begun = Job(workers, fail_at_three, [2, 3, 4]).begin(merge=join)
        with pytest.raises(DataError, match="row 3"):
            Job.run(begun.number)


def end_early(item, given, said):
    if said == "early" and item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return [(item, said)]


def test_a_job_whose_workers_were_killed_is_done_by_others():
    with Workers(1, None) as first, Workers(2, None) as others:
        begun = Job(first, end_early, [1, 2, 3]).begin("early", merge=join)
        alone = Job(first, end_early, [1, 2, 3]).begin("early", merge=join)
        with pytest.raises(WorkerError, match="no other one is left"):
            Job.run(alone.number, "late")
        assert list(Job.run(begun.join(others).number, "late")) == [[(1, "late")], [(2, "late")], [(3, "late")]]


def wait_for_file(item, given, path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return [(item, os.getpid())]


def end_first(item, given, path):
    wait_for_file(item, given, path)
    if given == "first":
        os.kill(os.getpid(), signal.SIGKILL)
    return [(item, given)]


def test_what_has_not_been_begun_is_done_by_others_who_come_later(tmp_path):
    path = tmp_path / "go on"
    with Workers(1, None) as first, Workers(2, None) as others:
        begun = Job(first, wait_for_file, range(9)).begin(str(path), merge=join).join(others)
        path.touch()
        (found,) = Job.run(begun.number)
    assert [item for item, _ in found] == list(range(9))
    by = [process for _, process in found]
    assert by[:2] == first.processes * 2  # it had the first two at hand
    assert set(by[2:]) <= set(others.processes)


def test_what_a_process_had_that_was_killed_is_done_by_others_who_came_later(tmp_path):
    path = tmp_path / "go on"
    with Workers(1, "first") as first, Workers(2, "others") as others:
        begun = Job(first, end_first, range(4)).begin(str(path), merge=join).join(others)
        path.touch()
        (found,) = Job.run(begun.number)
    assert found == [(item, "others") for item in range(4)]


@pytest.mark.parametrize("use", ["pass", "tf.zeros(1)"])
def test_whether_tensorflow_was_used(use):
    program = f"import tensorflow as tf\nfrom pipelines.runners.fork import tensorflow_was_used\n{use}\n"
    program += "print(tensorflow_was_used(), tensorflow_was_used(), int(tf.ones([])))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    used = use != "pass"
    assert shown == f"{used} {used} 1\n"


def test_as_many_workers_as_cores_or_tasks():
    cores = len(os.sched_getaffinity(0))
    assert choose_workers(1) == 1
    assert choose_workers(0) == 1
    assert 1 <= choose_workers(10_000) <= cores
