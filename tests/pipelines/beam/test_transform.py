"""`Analyze` and `Transform` between `ReadNpy` and `WriteDataset` are a build."""

import atexit
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
import pytest

import loaders
import pipelines
from pipelines.beam.learned_transform import Learned
from pipelines.beam.transform import transform_batch
from tests.support.arrays import write_files
from tests.support.builds import make
from tests.support.collecting import local_pipeline

STEPS = {"x": {"impute": "median", "normalize": ["robust", "minmax"], "indicator": True}, "w": {"store": "raw"}}

MODULE = """
import tensorflow as tf
import tensorflow_transform as tft
from pipelines import analyzers as npa

def scale(inputs):
    x = inputs["x"]
    z = npa.scale_to_z_score(npa.impute(x, "median"))
    return {"x": tft.scale_to_0_1(tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)), "labels": inputs["labels"], "z": z}
"""


def make_source(root, change=lambda x: x):
    rng = np.random.default_rng(1)
    arrays = {}
    for part, count in enumerate((300, 150, 50)):
        x = rng.normal(3, 2, size=(count, 4)).astype(np.float32)
        x[rng.random(x.shape) < 0.05] = np.nan
        arrays[f"x-{part}.npy"] = change(x)
        arrays[f"w-{part}.npy"] = rng.normal(size=count)
        arrays[f"labels-{part}.npy"] = rng.integers(0, 3, count)
    return write_files(root, arrays)


def run(source, output, config):
    """A build in ten lines."""
    rows = pipelines.ReadNpy(source, config=config, key="row", batch_bytes=2000)
    with local_pipeline() as pipeline:
        raw = pipeline | rows
        learned = raw | pipelines.Analyze(rows)
        stored = raw | pipelines.Transform(learned)
        stored | pipelines.WriteDataset(output, source=rows, transform=learned)


def content(root):
    """All files but the graph, whose bytes differ from one export to the next, and the manifest, which names them."""
    root = pathlib.Path(root)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and "transform_fn" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.name != "manifest.json"}


def manifest(root):
    found = loaders.Manifest.loads(pathlib.Path(root, "manifest.json").read_bytes())
    return dataclasses.replace(
        found, files=tuple(file for file in found.files if not file.file.startswith("transform"))
    )


@pytest.mark.parametrize(
    "config",
    [
        {"features": STEPS, "shard_bytes": 1024},
        {"shard_bytes": 2048, "splits": {"group": "labels", "fractions": {"train": 0.5, "rest": 0.5}}},
    ],
)
@pytest.mark.slow
def test_the_data_set_is_that_of_a_build(tmp_path, config):
    source = make_source(tmp_path / "src")
    run(source, tmp_path / "out", config)
    make(source, tmp_path / "built", **config)
    assert content(tmp_path / "out") == content(tmp_path / "built")
    assert manifest(tmp_path / "out") == manifest(tmp_path / "built")
    assert pipelines.verify(str(tmp_path / "out")).problems == ()


@pytest.mark.slow
def test_a_function_of_ones_own(tmp_path, monkeypatch):
    """tf.transform's own sums depend on the batches in their last bits, so shards are compared row by row.

    What is left to the configuration has no such bits, nor has what npyflow's analyzers learn.
    """
    at_end: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_end.append)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "mine.py").write_text(MODULE)
    config = {
        "preprocessing_fn": f"{tmp_path}/mine.py:scale",
        "features": {"w": {"normalize": "zscore"}},
        "shard_bytes": 4096,
    }
    source = make_source(tmp_path / "src")
    run(source, tmp_path / "out", config)
    assert list((tmp_path / "temporary").glob("npyflow-analysis-*"))
    for end in at_end:
        end()
    assert not list((tmp_path / "temporary").glob("*npyflow-*"))
    make(source, tmp_path / "built", **config)
    out, built = ((tmp_path / name / "fitted.npz").read_bytes() for name in ("out", "built"))
    assert out == built
    assert pipelines.verify(str(tmp_path / "out")).problems == ()
    for split in ("train", "validation", "test"):
        found, built = (
            list(loaders.numpy.Loader(str(tmp_path / name), split, batch_size=50, remainder="keep", epochs=1))
            for name in ("out", "built")
        )
        for ours, theirs in zip(found, built, strict=True):
            assert ours.keys() == theirs.keys()
            np.testing.assert_array_equal(ours["labels"], theirs["labels"])
            np.testing.assert_array_equal(ours["w"], theirs["w"])
            np.testing.assert_array_equal(ours["z"], theirs["z"])
            np.testing.assert_allclose(ours["x"], theirs["x"], rtol=1e-6)


def with_infinity(x):
    x = x.copy()
    x[3, 1] = np.inf
    return x


def test_an_infinity_is_an_error(tmp_path):
    source = make_source(tmp_path / "src", with_infinity)
    with pytest.raises(Exception, match="feature x: expected finite values or NaN; found inf"):
        run(source, tmp_path / "out", {"features": STEPS, "splits": {"train": 1}})
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_rows_need_their_keys(tmp_path):
    rows = pipelines.ReadNpy(make_source(tmp_path / "src"))
    with pytest.raises(pipelines.ConfigError, match="by which rows are known again"):
        pipelines.Analyze(rows)


def test_where_nothing_is_transformed_columns_are_those_of_the_shards(tmp_path):
    plain = {"impute": "none", "normalize": "none"}
    config = {"features": {"x": plain, "w": plain | {"dtype": "float32"}}}
    rows = pipelines.ReadNpy(make_source(tmp_path / "src"), key="row", config=config)
    batch = {"x": np.zeros((2, 4), np.float32), "w": np.ones(2), "labels": np.arange(2), "row": np.arange(2)}
    found = transform_batch(batch, Learned(config=rows.plan.config, files={}))
    assert found.keys() == batch.keys()
    assert found["w"].dtype == np.float32
