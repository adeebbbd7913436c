"""Headers that workers read are those that threads read."""

import contextlib

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.config import parse_config
from pipelines.errors import SourceError
from pipelines.running import header_reader
from pipelines.sources import worker_headers
from pipelines.sources.headers import read_with_threads
from pipelines.sources.table import scan
from pipelines.sources.worker_headers import read_on_workers
from tests.arrays import write_files

CONFIG = parse_config({"features": {"x": {"row_axes": 0}}})


@contextlib.contextmanager
def pipeline():
    with beam.Pipeline(runner=FnApiRunner()) as running:
        yield running


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "source", {f"x-{number:03d}.npy": np.full(3, number) for number in range(200)})


def test_workers_find_what_threads_find(source, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_headers, "MIN_FILES", 100)
    found = scan(source, CONFIG, read_headers=read_on_workers(pipeline, str(tmp_path / "temporary")))
    assert found == scan(source, CONFIG)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_is_wrong_comes_back_too(source, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_headers, "MIN_FILES", 100)
    (tmp_path / "source" / "x-017.npy").write_bytes(b"no array")
    with pytest.raises(SourceError, match=r"x-017\.npy.*expected a \.npy file"):
        scan(source, CONFIG, read_headers=read_on_workers(pipeline, str(tmp_path / "temporary")))


def test_few_files_are_read_here(source, tmp_path):
    def no_pipeline():
        raise AssertionError("a job for 200 files")

    assert scan(source, CONFIG, read_headers=read_on_workers(no_pipeline, str(tmp_path))) == scan(source, CONFIG)


@pytest.mark.parametrize(
    ("arguments", "here"),
    [
        ([], True),
        (["--temp_location=/tmp/x"], True),
        (["--runner=DirectRunner", "--temp_location=/tmp/x"], True),
        (["--runner=FlinkRunner"], True),
        (["--runner=FlinkRunner", "--temp_location=/tmp/x"], False),
    ],
)
def test_workers_read_where_they_share_a_directory_with_us(arguments, here):
    assert (header_reader(arguments) is read_with_threads) is here
