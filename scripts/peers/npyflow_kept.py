"""npyflow's own loader in a program that keeps the memory that it frees."""

from __future__ import annotations

import loaders

loaders.keep_freed_memory()

from peers.npyflow import PACKAGES, load  # noqa: E402  # TensorFlow is imported after it

__all__ = ["PACKAGES", "load"]
