"""The examples of docs/how-to/preprocessing_fn.md run, in order, in one directory."""

import re

import pytest

from pipelines import analyzers
from tests.support import ROOT, pages

PAGE = "docs/how-to/preprocessing_fn.md"


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    assert pages.run(PAGE, tmp_path)


def test_every_analyzer_is_in_the_table():
    named = set(re.findall(r"`(?:npa\.)?(\w+)(?:\(|`)", (ROOT / PAGE).read_text()))
    functions = {name for name in analyzers.__all__ if name[0].islower()}
    assert functions <= named
