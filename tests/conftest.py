"""What all tests share: quiet TensorFlow, repeatable properties, slow tests last."""

import os

# TensorFlow reads it when it is imported, so it is set before any test module is.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import hypothesis
import pytest

# Deadlines would fail on a busy machine.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, max_examples=50)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts slow tests last, each half in its own order, so that a broken piece shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
