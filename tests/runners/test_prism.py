"""A pipeline on Prism: byte for byte the data set of the runner in this process."""

import sys

import numpy as np
import pytest

from pipelines.maintain.verify import verify
from tests.support import own_pipeline, prism
from tests.support.arrays import write_files
from tests.support.flink import contents

pytestmark = pytest.mark.slow


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
