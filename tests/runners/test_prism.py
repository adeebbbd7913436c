"""Beam's Prism, a runner of its own in Go: the same bytes as of this process.

`go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0` makes the program, some minutes of work and 66 MB. It
listens on all interfaces, so that it is run where there is no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pipelines.output.directory import read_manifest
from tests.support.arrays import write_files
from tests.support.builds import build

PRISM = shutil.which(os.environ.get("NPYFLOW_PRISM", "prism"))

MODULE = """
from pipelines import analyzers as npa

def mine(inputs):
    return {"x": npa.scale_to_z_score(npa.impute(inputs["x"], "mean")), "label": inputs["label"]}
"""

WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@pytest.mark.slow
@pytest.mark.skipif(PRISM is None, reason="no Prism is on PATH, or named by NPYFLOW_PRISM")
def test_the_shards_of_a_function_are_those_of_this_process(tmp_path):
    """Two phases, and steps beside the function."""
    (tmp_path / "mine.py").write_text(MODULE)
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (3000, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    arrays = {"x.npy": x, "y.npy": rng.normal(size=3000), "label.npy": np.arange(3000)}
    source = write_files(tmp_path / "source", arrays)
    config = {
        "preprocessing_fn": f"{tmp_path}/mine.py:mine",
        "features": {"y": {"role": "input", "normalize": "robust"}},
        "shard_bytes": 16384,
    }
    here = build(source, tmp_path / "here", config)
    options = [f"--set=preprocessing_fn={config['preprocessing_fn']}", "--set=shard_bytes=16384"]
    options += ["--set=features.y={role: input, normalize: robust}", f"--temp_location={tmp_path / 'temp'}"]
    options += ["--runner=PrismRunner", f"--prism_location={PRISM}"]
    command = [sys.executable, "-m", "pipelines.cli", "build", source, str(tmp_path / "there"), *options]
    done = subprocess.run([*WITHOUT_NETWORK, *command], capture_output=True, text=True)
    if done.stderr.startswith("unshare: "):
        pytest.skip(f"no Prism without a network of its own: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert read_manifest(str(tmp_path / "there")).splits == here.splits
