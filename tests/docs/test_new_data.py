"""The examples of docs/how-to/new_data.md run, in order, in one directory."""

import pytest

from tests.support import pages


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    shown = pages.run("docs/how-to/new_data.md", tmp_path)
    assert "No row is in more than one split" in shown["npyflow leakage dataset"]
