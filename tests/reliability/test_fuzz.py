"""Damaged files are read as NumPy reads them, or refused; `scripts/fuzz.py` tries any number of others."""

import pathlib
import subprocess
import sys

import pytest

from tests.support.fuzzing import FAILED, KINDS, run

ROOT = pathlib.Path(__file__).resolve().parents[2]

QUICK = {"npy": 1000, "npz": 200, "manifest": 500, "shard": 500, "record": 1000}
MORE = {"npy": 30_000, "npz": 5000, "manifest": 25_000, "shard": 10_000, "record": 30_000}
"""100,000 together, in 9 seconds of one core."""


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_rightly_or_refused(kind):
    found, failure = run(kind, range(QUICK[kind]))
    assert failure == ""
    assert found[True], "some are harmless, or the test is"
    assert found[False]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_more_damaged_files(kind):
    assert run(kind, range(1_000_000, 1_000_000 + MORE[kind]))[1] == ""


@pytest.mark.parametrize("kind", FAILED)
def test_what_has_failed_once(kind):
    assert run(kind, FAILED[kind])[1] == ""


def test_the_script_prints_what_was_tried():
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py"), "--cases=100", "--seed=3", "npy", "record"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split(" | ")[:2] for line in done.stdout.splitlines()[2:]]
    assert rows == [["| npy", "100"], ["| record", "100"]]
