"""Results as people see them."""

import pytest
import rich.console

from pipelines import results


class Found(results.Result):
    def blocks(self):
        return ["3 rows"]


def test_a_result_is_text_in_a_notebook_too(monkeypatch):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert str(Found()) == "3 rows"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**20, "5.0 MiB"), (2**60, "1024.0 PiB")]
)
def test_bytes_for_people(size, text):
    assert results.show_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (120, "2 min"), (6000, "1 h 40 min"), (86400 * 5, "5.0 days")],
)
def test_times_for_people(seconds, text):
    assert results.show_seconds(seconds) == text
