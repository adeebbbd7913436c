"""The examples of docs/how-to/python.md run, in order, in one program."""

import pathlib
import re
import subprocess
import sys

import pytest

import pipelines

PAGE = (pathlib.Path(__file__).parents[2] / "docs/how-to/python.md").read_text()


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "write 2000 2000" in done.stdout
    assert "array 'labels' (feature labels): expected 2000 rows" in done.stdout
    assert "{'test': 200, 'train': 1800}" in done.stdout


def test_every_function_is_in_the_table():
    functions = {name for name in dir(pipelines) if name[0].islower()}
    assert functions == set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
