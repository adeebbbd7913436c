"""Headers are the same, wherever they are read."""

import contextlib
import pathlib
import pickle
import threading
import time

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.config.schema import parse_config
from pipelines.errors import SourceError, WorkerError
from pipelines.sources import headers, worker_headers
from pipelines.sources.headers import cut, read_headers, read_here
from pipelines.sources.table import scan
from pipelines.sources.worker_headers import header_reader, read_on_workers
from pipelines.storage import files
from tests.support.arrays import write_files

CONFIG = parse_config({"features": {"x": {"row_axes": 0}}})


@contextlib.contextmanager
def pipeline():
    with beam.Pipeline(runner=FnApiRunner()) as running:
        yield running


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "source", {f"x-{number:03d}.npy": np.full(3, number) for number in range(200)})


@pytest.mark.parametrize("waits", [False, True])
def test_only_files_that_wait_are_read_at_once(source, monkeypatch, waits):
    threads, original = set(), files.open_input

    def open_slowly(path, **known):
        threads.add(threading.current_thread())
        if waits:
            time.sleep(0.005)
        return original(path, **known)

    chunks = cut([(path.name, path.stat().st_size) for path in sorted(pathlib.Path(source).iterdir())])
    expected = [read_headers(source, chunk) for chunk in chunks]
    monkeypatch.setattr(files, "open_input", open_slowly)
    if not waits:  # a busy machine makes any thread wait
        monkeypatch.setattr(headers, "WAITING", 10_000)

    assert list(read_here(source, chunks)) == expected
    assert (threads != {threading.current_thread()}) is waits


def test_sixty_four_files_of_a_store_wait_together(source, monkeypatch):
    together, original = threading.Barrier(64), files.open_input

    def open_together(path, **known):
        together.wait(timeout=30)
        return original(path, **known)

    paths = [(path.name, path.stat().st_size) for path in sorted(pathlib.Path(source).iterdir())][:192]
    expected = read_headers(source, paths)
    monkeypatch.setattr(files, "open_input", open_together)
    monkeypatch.setattr(headers, "_local", lambda root, chunk: False)
    assert [found for chunk in read_here(source, cut(paths)) for found in chunk] == expected


def test_workers_find_what_is_found_here(source, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_headers, "MIN_FILES", 100)
    found = scan(source, CONFIG, read_headers=read_on_workers(pipeline, str(tmp_path / "temporary")))
    assert found == scan(source, CONFIG)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_is_wrong_comes_back_too(source, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_headers, "MIN_FILES", 100)
    (tmp_path / "source" / "x-017.npy").write_bytes(b"no array")
    with pytest.raises(SourceError, match=r"x-017\.npy.*expected a \.npy file"):
        scan(source, CONFIG, read_headers=read_on_workers(pipeline, str(tmp_path / "temporary")))


def test_what_others_put_there_is_not_unpickled(source, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_headers, "MIN_FILES", 100)

    class Program:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "victim",)

    @contextlib.contextmanager
    def overheard():
        with pipeline() as running:
            yield running
        for path in (tmp_path / "temporary").rglob("*.headers"):
            path.write_bytes(path.read_bytes()[:32] + pickle.dumps(Program()))

    with pytest.raises(WorkerError, match="expected headers with the signature of this job; found others"):
        scan(source, CONFIG, read_headers=read_on_workers(overheard, str(tmp_path / "temporary")))
    assert not (tmp_path / "victim").exists()


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
    assert (header_reader(arguments) is read_here) is here
