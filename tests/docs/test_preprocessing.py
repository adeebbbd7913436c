"""The examples of docs/preprocessing.md run, in order, in one directory."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from pipelines import analyzers

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "preprocessing.md").read_text()


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    for language, block in re.findall(r"^```(python|sh)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if block.startswith("# functions.py\n"):
            (tmp_path / "functions.py").write_text(block)
            continue
        command = [sys.executable, "-c", block]
        if language == "sh":
            program, *arguments = shlex.split(block)
            assert program == "npyflow"
            command = [sys.executable, "-m", "pipelines.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, block + done.stderr


def test_every_analyzer_is_in_the_table():
    named = set(re.findall(r"`(?:npa\.)?(\w+)(?:\(|`)", PAGE))
    functions = {name for name in analyzers.__all__ if name[0].islower()}
    assert functions <= named
