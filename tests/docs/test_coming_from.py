"""The examples of docs/how-to/coming_from.md run, in order, in one directory."""

import pytest

from tests.support import pages


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    printed = "".join(pages.run("docs/how-to/coming_from.md", tmp_path).values())
    for expected in (
        "(256, 8, 8, 1) <dtype: 'float32'> (256,)",
        "1617 (8, 8, 1) [3 1 2]",
        "True",
        "'test': 217}",
        "256 (256, 8, 8, 1)",
    ):
        assert expected in printed
