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
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts slow tests last, each half in its own order, so that a broken piece shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


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
