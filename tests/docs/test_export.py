"""The examples of docs/how-to/export.md run, in order, in one directory."""

import pytest

from tests.support import pages


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    shown = pages.run("docs/how-to/export.md", tmp_path)
    said = "".join(shown.values())
    assert "fixed_size_list<element: float>[16]" in said
    assert "(16,)" in said
    assert "{'role': 'label'" in said
    read, there = said.split("\nrows ")[-1].split()
    assert read == there
