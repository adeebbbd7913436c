"""What all tests share: quiet TensorFlow, repeatable properties, slow tests last, the data sets of the loaders."""

import os
import pathlib

# TensorFlow reads it when it is imported, so it is set before any test module is.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import hypothesis
import pytest

from tests.support.skips import pytest_sessionfinish, pytest_terminal_summary  # noqa: F401 - hooks

# Deadlines would fail on a busy machine.
hypothesis.settings.register_profile("local", deadline=None, max_examples=30)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, max_examples=50)
hypothesis.settings.register_profile("brief", deadline=None, derandomize=True, print_blob=True, max_examples=5)
hypothesis.settings.load_profile(os.environ.get("NPYFLOW_EXAMPLES") or ("ci" if os.environ.get("CI") else "local"))


LONGEST = (
    "runners/test_flink.py",
    "reliability/test_kills.py",
    "docs/test_how_to.py",
    "pipelines/maintain/test_append.py",
    "docs/test_loading.py",
    "pipelines/test_api.py",
    "project/test_benchmark.py",
    "pipelines/test_build.py",
    "project/test_gpu_check.py",
    "pipelines/analyze/test_user_function.py",
    "docs/test_readme.py",
    "runners/test_dataflow.py",
    "pipelines/storage/test_s3.py",
)
"""The files of slow tests that take longest, and so begin first, as each stays with one process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts slow tests last, each half in its own order, so that a broken piece shows early; the longest ones first."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        slow = item.get_closest_marker("slow") is not None
        long = (number for number, name in enumerate(LONGEST) if item.path.as_posix().endswith(f"/tests/{name}"))
        return slow, next(long, len(LONGEST)) if slow else 0

    items.sort(key=place)


@pytest.fixture
def root(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """53 rows in four shards, one of them empty, in small chunks and windows."""
    from tests.support.numbered import small_chunks, write_numbered  # TensorFlow, which many tests do without

    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=4)
    return tmp_path / "out"


@pytest.fixture
def ragged_root(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """53 rows of several lengths in four shards, one of them empty, in small windows."""
    from loaders.order import chunks
    from tests.support import ragged

    monkeypatch.setattr(chunks, "WINDOW_BYTES", 2000)
    lengths = ragged.lengths_of(53)
    ragged.write(tmp_path / "ragged", [lengths[:20], [], lengths[20:50], lengths[50:]])
    return tmp_path / "ragged"
