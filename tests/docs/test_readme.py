"""Every code block of the README runs, in order, in one directory."""

import os
import re
import subprocess
import sys

import pytest

from tests.support import ROOT, pages


def test_the_kinds_of_blocks_are_known():
    assert {kind for kind, _ in pages.blocks("README.md")} <= {"sh", "python", "yaml"}


@pytest.mark.slow
def test_every_block_runs(tmp_path):
    shown = pages.run("README.md", tmp_path)
    assert "6,000 rows" in shown["npyflow verify dataset"]
    (trained,) = (output for text, output in shown.items() if "keras" in text)
    accuracy = float(re.search(r"^([\d.]+) of the test rows", trained, re.MULTILINE)[1])
    assert accuracy > 0.97


@pytest.mark.slow
def test_other_commands_of_the_readme_are_there(tmp_path):
    """What is to be installed can be; test_the_demo runs one of the scripts, and the other runs this test."""
    listed = [line for kind, text in pages.blocks("README.md") if kind == "sh" for line in pages.commands(text)]
    for command in (line for line in listed if not line.startswith("npyflow ")):
        if command.startswith("pip install "):
            done = subprocess.run(
                ["bash", "-ec", f"{sys.executable} -m {command} --dry-run --quiet"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        else:
            assert os.access(ROOT / command, os.X_OK), command


@pytest.mark.slow
def test_the_demo(tmp_path):
    """It fails where a model is not accurate enough."""
    done = subprocess.run(
        [ROOT / "scripts" / "demo.sh"], cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "MNIST" in done.stdout
    assert "Indian Pines" in done.stdout
