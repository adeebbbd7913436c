"""What a build shows while it runs."""

import io
import time

import pytest
from rich.console import Console

from pipelines import counters
from pipelines.interface import progress as report


def test_a_slow_look_at_finished_tasks_is_taken_rarely():
    looks = []

    def poll():
        looks.append(time.monotonic())
        time.sleep(0.05)
        return {}

    with report.shown(Console(file=io.StringIO()), {"write": 1}, poll):
        time.sleep(1.2)
    assert len(looks) <= 3  # the first after a fifth of a second, the next one a second later, and one at the end


def show(**console):
    out = io.StringIO()
    with report.shown(Console(file=out, **console), {"analyze": 100, "write": 200}):
        counters.advance("analyze", rows=100, size=2**20)
        counters.advance("write", rows=150, size=2**20)
        counters.advance("write", rows=50, size=2**20)
    return out.getvalue()


def test_plain_lines_end_with_every_row():
    lines = show().splitlines()
    assert lines[-2].startswith("analyze: 100 of 100 rows, ")
    assert lines[-1].startswith("write: 200 of 200 rows, ")
    assert lines[-1].endswith("MiB/s")


def test_bars_on_a_terminal():
    shown = show(force_terminal=True, width=100)
    assert "200 of 200 rows" in shown
    assert "━" in shown


def test_work_of_other_processes_is_polled():
    out, done = io.StringIO(), {"write": counters.Count(rows=200, size=2**20)}
    with report.shown(Console(file=out), {"analyze": 100, "write": 200}, lambda: done):
        counters.advance("analyze", rows=100, size=2**20)
    assert "analyze: 100 of 100 rows" in out.getvalue()
    assert "write: 200 of 200 rows" in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_worker_that_was_given_up_is_told_once(terminal):
    out = io.StringIO()
    with report.shown(Console(file=out, force_terminal=terminal, width=200), {"write": 200}):
        counters.count(counters.STUCK)
        time.sleep(3 * report.REFRESH_SECONDS)
    assert out.getvalue().count("a worker process did nothing for long and was ended") == 1


def test_a_function_that_is_told_of_progress_warns_of_a_worker():
    with pytest.warns(UserWarning, match="did nothing for long"), report.shown(print, {"write": 200}):
        counters.count(counters.STUCK)


def test_nobody_watching_is_no_error():
    counters.advance("write", rows=1, size=1)


def test_counts_do_not_leak_into_the_next_build():
    for _ in range(2):
        with counters.counting() as counter:
            counters.advance("write", rows=3, size=4)
            assert counter.read("write") == counters.Count(rows=3, size=4)
