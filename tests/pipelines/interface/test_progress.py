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
    assert show().splitlines() == ["analyze: 100 of 100 rows", "write: 200 of 200 rows"]


def test_bars_on_a_terminal():
    shown = show(force_terminal=True, width=100)
    assert "200 of 200 rows" in shown
    assert "━" in shown


def views(totals, passes, monkeypatch):
    """A view, and a clock that a test moves."""
    clock = [100.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: clock[0])
    return report._Stages(totals, passes), clock


def test_speed_and_time_left_are_said_once_they_were_measured(monkeypatch):
    view, clock = views({"analyze": 100, "write": 100}, {}, monkeypatch)
    assert view.describe("analyze", counters.Count(rows=10, size=10 * 2**20)) == "10 of 100 rows"
    clock[0] += 1
    assert view.describe("analyze", counters.Count(rows=20, size=20 * 2**20)) == "20 of 100 rows"
    clock[0] += 4
    said = view.describe("analyze", counters.Count(rows=60, size=60 * 2**20))
    assert said == "60 of 100 rows, 10.0 MiB/s, about 14 s left in all"  # 50 rows in 5 s, 140 to go
    assert view.describe("analyze", counters.Count(rows=60, size=60 * 2**20)).startswith("60 of 100 rows, 10.0 MiB/s")


def test_fleeting_work_prints_nothing_unless_it_takes_long(monkeypatch):
    out = io.StringIO()
    with report.shown(Console(file=out), {"verify": 10}, fleeting=True):
        counters.advance("verify", rows=10, size=1)
    assert not out.getvalue()
    monkeypatch.setattr(report, "PLAIN_SECONDS", 0.0)
    with report.shown(Console(file=out), {"verify": 10}, fleeting=True):
        counters.advance("verify", rows=10, size=1)
    assert out.getvalue() == "verify: 10 of 10 rows\n"


def test_passes_over_the_same_rows_are_told_apart(monkeypatch):
    view, _ = views({"analyze": 300}, {"analyze": 3}, monkeypatch)
    said = [view.describe("analyze", counters.Count(rows=rows)) for rows in (50, 100, 299, 300)]
    assert said == [
        "pass 1 of 3, 50 of 100 rows",
        "pass 2 of 3, 0 of 100 rows",
        "pass 3 of 3, 99 of 100 rows",
        "pass 3 of 3, 100 of 100 rows",
    ]


def test_a_stage_that_an_earlier_run_has_done_is_not_waited_for(monkeypatch):
    view, clock = views({"analyze": 100, "write": 100}, {}, monkeypatch)
    view.describe("write", counters.Count(rows=50))
    clock[0] += 10
    assert view.describe("write", counters.Count(rows=75)) == "75 of 100 rows, about 10 s left in all"
    out = io.StringIO()
    with report.shown(Console(file=out, force_terminal=True, width=100), {"analyze": 100, "write": 200}):
        counters.advance("write", rows=200, size=1)
    assert "analyze" not in out.getvalue()


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
