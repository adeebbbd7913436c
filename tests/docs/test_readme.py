"""Every code block of the README runs, in order, in one directory, as a reader would run it."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    return BLOCK.findall((ROOT / "README.md").read_text())


def commands(text):
    return [line.split("#")[0].strip() for line in text.splitlines()]


def run(command, directory):
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_kinds_of_blocks_are_known():
    assert {kind for kind, _ in blocks()} == {"sh", "python", "yaml"}


@pytest.mark.slow
def test_every_block_runs(tmp_path):
    shown = {}
    for kind, text in blocks():
        if kind == "yaml":
            name = text.split(":")[0].removeprefix("# ")
            (tmp_path / name).write_text(text)
        elif kind == "python":
            shown[text] = run([sys.executable, "-c", text], tmp_path)
        else:
            for command in commands(text):
                if command.startswith("npyflow "):
                    shown[command] = run(["bash", "-ec", command], tmp_path)
                elif command.startswith("pip install "):
                    run(["bash", "-ec", f"python -m {command} --dry-run --quiet"], ROOT)
                else:  # the two scripts: test_demo runs the one, and the other runs this test
                    assert os.access(ROOT / command, os.X_OK), command
    assert "6,000 rows" in shown["npyflow verify dataset"]
    (facts,) = (output for text, output in shown.items() if "loaders.open" in text)
    assert "birch" in facts


@pytest.mark.slow
def test_the_demo(tmp_path):
    """The other of the two commands; it fails where a model is not accurate enough."""
    shown = run([str(ROOT / "scripts" / "demo.sh")], tmp_path)
    assert "MNIST" in shown
    assert "Indian Pines" in shown
