"""Values of a monoid, merged by Beam."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam


class Merge(beam.CombineFn):  # type: ignore[misc]
    """Merges values in any order: a CombineFn of a function that is associative and commutative.

    Of no value it gives `nothing`.
    """

    def __init__(self, merge: Callable[[Any, Any], Any], nothing: Any = None) -> None:
        self.merge = merge
        self.nothing = nothing

    def create_accumulator(self) -> None:
        """Nothing yet."""

    def add_input(self, accumulator: Any, value: Any) -> Any:
        """Merges one more value."""
        return value if accumulator is None else self.merge(accumulator, value)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        """Merges those that have a value."""
        return functools.reduce(self.add_input, (found for found in accumulators if found is not None), None)

    def extract_output(self, accumulator: Any) -> Any:
        """The value of all."""
        return self.nothing if accumulator is None else accumulator
