"""Beam's Prism, a runner of its own in Go: byte for byte the data sets of the runner in this process."""

import sys

import numpy as np
import pytest

from pipelines.maintain.verify import verify
from tests.support import own_pipeline, prism
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.flink import contents

pytestmark = pytest.mark.slow

MODULE = """
from pipelines import analyzers as npa

def mine(inputs):
    return {"x": npa.scale_to_z_score(npa.impute(inputs["x"], "mean")), "label": inputs["label"]}
"""


def test_a_pipeline_of_ones_own(tmp_path):
    """Reads arrays, which Prism splits, filters rows, and writes a data set with one shuffle."""
    options = prism.options()
    rng = np.random.default_rng(0)
    arrays = {f"features-{n}.npy": rng.normal(size=(1500, 16)).astype(np.float32) for n in range(3)}
    arrays |= {f"labels-{n}.npy": rng.integers(0, 4, 1500) for n in range(3)}
    source = write_files(tmp_path / "src", arrays)
    prism.run(sys.executable, own_pipeline.__file__, source, str(tmp_path / "out"), *options)
    own_pipeline.run(source, str(tmp_path / "here"))
    assert contents(tmp_path / "out") == contents(tmp_path / "here")
    assert not verify(str(tmp_path / "out")).problems


def test_the_shards_of_a_function(tmp_path):
    """Two phases, and steps beside the function."""
    options = prism.options()
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
    said = [f"--set=preprocessing_fn={config['preprocessing_fn']}", "--set=shard_bytes=16384"]
    said += ["--set=features.y={role: input, normalize: robust}", f"--temp_location={tmp_path / 'temp'}"]
    command = [sys.executable, "-m", "pipelines.cli", "build", source, str(tmp_path / "there"), *said]
    prism.run(*command, *options)
    there = verify(str(tmp_path / "there"))
    assert not there.problems
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert here.splits
