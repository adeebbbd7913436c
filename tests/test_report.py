"""What a build shows while it runs."""

import io

import pytest
from rich.console import Console

from pipelines import progress, report


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**20, "5.0 MiB"), (2**60, "1024.0 PiB")]
)
def test_bytes_for_people(size, text):
    assert report.show_bytes(size) == text


def show(**console):
    out = io.StringIO()
    with report.shown(Console(file=out, **console), {"analyze": 100, "write": 200}):
        progress.advance("analyze", rows=100, size=2**20)
        progress.advance("write", rows=150, size=2**20)
        progress.advance("write", rows=50, size=2**20)
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
    out, done = io.StringIO(), {"write": progress.Count(rows=200, size=2**20)}
    with report.shown(Console(file=out), {"analyze": 100, "write": 200}, lambda: done):
        progress.advance("analyze", rows=100, size=2**20)
    assert "analyze: 100 of 100 rows" in out.getvalue()
    assert "write: 200 of 200 rows" in out.getvalue()


def test_nobody_watching_is_no_error():
    progress.advance("write", rows=1, size=1)


def test_counts_do_not_leak_into_the_next_build():
    for _ in range(2):
        with progress.counting() as counter:
            progress.advance("write", rows=3, size=4)
            assert counter.read("write") == progress.Count(rows=3, size=4)
