"""Room for a data set: asked for before anything is written, and never more than what is certain to be written."""

import collections
import shutil

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.config.schema import parse_config
from pipelines.errors import OutputError
from pipelines.forecast.space import least_bytes
from pipelines.maintain.append import plan_sources
from tests.support import builds
from tests.support.arrays import write_files

ROWS = 1000
PLAIN = {"features": {"x": {"normalize": "none", "impute": "none"}}, "splits": {"train": 1}, "shard_bytes": 4000}


@pytest.fixture
def source(tmp_path):
    x = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    return write_files(tmp_path / "src", {"x.npy": x})


@pytest.fixture
def free(monkeypatch):
    """Says how many bytes are free."""
    usage = collections.namedtuple("Usage", "total used free")

    def say(size):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 0, size))

    return say


def test_a_build_that_has_no_room_is_refused_before_anything_is_written(source, free, tmp_path, capsys):
    free(1000)
    assert main.main(["build", source, str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert f"{tmp_path / 'out'}: expected room for " in shown
    assert "found 1000 B free. Nothing was written; name a directory with more room\n" in shown
    assert not (tmp_path / "out").exists()


def test_what_is_there_already_needs_no_room(source, free, tmp_path, monkeypatch):
    """Neither in a build that goes on, nor in a data set that would stay beside its successor: that one does."""
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.publish.manifest.publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            builds.build(source, tmp_path / "out", PLAIN)
    free(0)
    manifest = builds.build(source, tmp_path / "out", PLAIN)
    assert manifest.rows("train") == ROWS
    with pytest.raises(OutputError, match="or remove the data set that is there, which would stay"):
        builds.build(source, tmp_path / "out", PLAIN | {"seed": 1}, overwrite=True)
    later = write_files(tmp_path / "later", {"x-1.npy": np.ones((ROWS, 4), np.float32)})
    with pytest.raises(OutputError, match="expected room for"):
        builds.append(later, tmp_path / "out")


def test_arrays_in_memory_are_written_too(free, tmp_path):
    x = np.ones((ROWS, 4), np.float32)
    free(x.nbytes + 5_000)
    with pytest.raises(OutputError, match="expected room for"):
        builds.build({"x": x}, tmp_path / "out", PLAIN)


@pytest.mark.parametrize("said", [{}, {"filter": "keep"}, {"splits": {"column": "keep", "names": ["train"]}}])
def test_only_what_is_certain_is_asked_for(said, tmp_path):
    arrays = {"x.npy": np.ones((ROWS, 4), np.float32), "keep.npy": np.arange(ROWS) % 2, "t.npy": np.full(ROWS, "aé")}
    config = parse_config({"features": {"x": {"normalize": "none"}}, "splits": {"train": 1}} | said)
    plan = plan_sources(write_files(tmp_path / "src", arrays), config)
    assert least_bytes(plan) == (0 if said else ROWS * (16 + 8))


def test_the_forecast_of_rows_of_one_size_is_what_is_written(source, tmp_path):
    plan = plan_sources(source, parse_config(PLAIN))
    written = sum(shard.bytes for shard in builds.build(source, tmp_path / "out", PLAIN).splits["train"])
    assert least_bytes(plan) == pytest.approx(written, rel=0.01)
