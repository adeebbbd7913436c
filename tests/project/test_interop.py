"""The tools that need no further packages read rows of every dtype, and the page says what their files say."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.support import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from interop import table  # found by the line above
from interop.compare import compare, equal

FILES = sorted(table.TOOLS.glob("*/*.py"))


def test_a_value_has_to_be_the_same_in_a_type_that_holds_it():
    assert equal([[1, 2**63]], np.array([[1, 2**63]], np.uint64))
    assert not equal(np.array([2.0**63]), np.array([2**63], np.uint64))
    assert equal(np.float32(0.5), np.float16(0.5))
    assert not equal(np.float32(0.1), np.float64(0.1))
    assert equal([[1.0, -2.0]], np.array([1 - 2j]))
    assert equal(float("nan"), np.float32("nan"))
    assert not equal(b"ab", np.bytes_(b"a"))


def test_rows_that_are_missing_repeated_or_changed_are_told():
    rows = {"row": [0, 1], "x": [np.float32(1), np.float32(2)]}
    assert compare({"row": [1, 0], "x": [2.0, 1.0]}, rows, count=2) == (["row", "x"], [])
    assert compare({"row": [1, 0], "x": [1.0, 1.0]}, rows, count=2)[1] == ["x of row 1: expected 2.0; found 1.0"]
    assert compare({"row": [1, 1]}, rows, count=2)[1] == ["expected 2 rows; found 2, 1 of them different ones"]


def test_the_page_has_the_code_and_the_line_more_of_each_tool():
    page = table.PAGE.read_text()
    assert page.split(table.BEGIN)[1].split(table.END)[0].count("\n### ") == len(FILES)
    assert "silent" not in page
    for file in FILES:
        name, more, _, code = table.about(file)
        assert f"### {name}\n\n```py\n{code}\n```\n" in page
        assert f"| {name} | {f'works with a line more: {more}' if more else ''}" in page


ALL = """
import pathlib, sys
from interop import data, run

data.make(pathlib.Path(sys.argv[1]))
run.main(*sys.argv[1:])
"""


@pytest.mark.slow
def test_tools_that_need_no_further_packages(tmp_path):
    variables = os.environ | table.QUIET | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "scripts")))}
    files = [file for file in FILES if file.parent.name == table.OWN]
    command = [sys.executable, "-c", ALL, str(tmp_path), *map(str, files)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = table.results(done.stdout)
    assert len(found) == len(files)
    outcomes = [table.outcome(file, each) for file, each in zip(files, found, strict=True)]
    assert [text for text, good in outcomes if not good] == []
