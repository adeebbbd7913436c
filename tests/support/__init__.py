"""What tests share."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def examples(count: int) -> int:
    """How many examples of a property that takes long: all of them in CI, a third elsewhere."""
    return count if os.environ.get("CI") else -(-count // 3)
