"""Prism, Beam's local runner that is a program in Go, for the tests."""

import os
import pathlib
import subprocess

import apache_beam as beam
import pytest

CACHE = pathlib.Path(os.environ.get("NPYFLOW_PRISM_CACHE", "~/.cache/npyflow/prism")).expanduser()
ALONE = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Before a command: a network of its own, as Prism listens on all interfaces of the one that it is in."""


def options():
    """What a pipeline is told to run on Prism; skips the test where it is not there."""
    program = CACHE / f"prism-{beam.__version__}"
    if not program.exists():
        pytest.skip(f"no Prism here: {program} missing; scripts/prism.sh setup gets it")
    return ["--runner=PrismRunner", f"--prism_location={program}", "--environment_type=LOOPBACK"]


def run(*command, timeout=300):
    """Runs a program whose pipelines are told `options()`; its output if it succeeds."""
    alone = ALONE if subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0 else ()
    done = subprocess.run([*alone, *command], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
