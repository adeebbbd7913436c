"""The examples of docs/how-to/beam.md run, in order, in one program; then the pipeline in YAML, as Beam runs it."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import loaders
from loaders.numpy import Loader
from tests.support import ROOT, pages

PAGE = "docs/how-to/beam.md"


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    shown = pages.run(PAGE, tmp_path)
    assert any("((250, 8), (250,))" in output for output in shown.values())

    scans = np.concatenate([np.load(tmp_path / f"arrays/scans-{part}.npy") for part in (0, 1)])
    likely = loaders.open(tmp_path / "likely")
    assert sum(map(likely.manifest.rows, ("train", "test"))) == int((scans @ np.load(tmp_path / "model.npy") > 0).sum())
    (batch,) = Loader(tmp_path / "likely", "test", batch_size=10**6, epochs=1)
    assert batch["scans"].shape[1:] == (8,)
    assert batch["quality"].shape == batch["labels"].shape

    built = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "build", "arrays", "same", "--set=features.scans.normalize=minmax"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    splits = [loaders.open(tmp_path / name).manifest.splits for name in ("dataset", "same")]
    assert splits[0] == splits[1]

    (command,) = (line for kind, text in pages.blocks(PAGE) if kind == "sh" for line in pages.commands(text))
    program = [sys.executable, *command.split()[1:], "--runner=FnApiRunner"]  # without looking for Prism elsewhere
    done = subprocess.run(program, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    labels = np.concatenate([np.load(tmp_path / f"arrays/labels-{part}.npy") for part in (0, 1)])
    found = loaders.open(tmp_path / "three_classes").manifest
    assert sum(map(found.rows, found.splits)) == int((labels != 3).sum())
    assert re.search(r"needs the package jsonschema", (ROOT / PAGE).read_text())
