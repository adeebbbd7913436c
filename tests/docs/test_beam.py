"""The examples of docs/beam.md run, in order, in one program."""

import pathlib
import re
import subprocess
import sys

import pytest

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "beam.md").read_text()


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "((250, 8), (250,))" in done.stdout
