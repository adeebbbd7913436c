import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_each_framework_trains_from_shards() -> None:
    """On the CPU too, where it says so."""
    for framework in ("torch", "jax"):
        pytest.importorskip(framework)
    done = subprocess.run(
        ["scripts/gpu_check.sh", "--rows=200", "--batch=32", "--seconds=1"],
        cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["device", "step", "alone", "with", "input", "waits", "images/s"]
    assert len(lines) == 5
    for line in lines:
        assert " the CPU " in line, line
        assert line.count(" ms ") == 2, line
