"""TensorFlow, imported when it is first used: a configuration is made of steps long before a graph is made of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["tf"]


class _Lazy:
    """A module that is imported when something of it is looked up."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = _Lazy("tensorflow")
