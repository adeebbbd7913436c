"""Modules that take long to import, or need not be installed: each is imported when something of it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Lazy", "beam", "tf"]


class Lazy:
    """A module that is imported when something of it is looked up."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import apache_beam as beam
    import tensorflow as tf
else:
    beam, tf = Lazy("apache_beam"), Lazy("tensorflow")
