"""A function called on each of many items, by whichever workers there are."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from pipelines.runners.failures import Recorded, recording
from pipelines.runners.pool import Workers
from pipelines.runners.worker import Function


class Distribute(beam.PTransform):  # type: ignore[misc]
    """Calls `function(item, shared, *arguments)`, a function of a module, for each item; errors are recorded.

    The runner places the items on its workers; where this process, or a pool of workers, has been given `shared`, it
    does the work. What is shared may be a reference, and what else is given a side input.

    Expects a pipeline. Outputs a PCollection of what the calls return.
    """

    def __init__(
        self,
        function: Function,
        items: Sequence[Any],
        shared: Any,
        *arguments: Any,
        workers: Workers | None,
        errors: str,
    ) -> None:
        super().__init__()
        self._function = function
        self._items = items
        self._shared = shared
        self._arguments = arguments
        self._workers = workers
        self._errors = errors

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the calls."""
        if self._workers is None:
            return (
                pipeline
                | "List" >> beam.Create(self._items)
                | "Reshuffle" >> beam.Reshuffle()
                | "Call" >> beam.Map(Recorded(self._function, self._errors), self._shared, *self._arguments)
            )
        share = functools.partial(self._workers.map, self._function, self._items)
        return _call_here(pipeline, share, *self._arguments, errors=self._errors)


@dataclasses.dataclass(eq=False)
class Begun(beam.PTransform):  # type: ignore[misc]
    """Waits for what was begun before there was a pipeline.

    Expects a pipeline of this process. Outputs a PCollection of the results.
    """

    results: Iterator[Any]
    errors: str

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the waiting."""
        return _call_here(pipeline, lambda: self.results, errors=self.errors)


_numbers = itertools.count()
_functions: dict[int, Callable[..., Iterator[Any]]] = {}


def _call_here(
    pipeline: beam.Pipeline, function: Callable[..., Iterator[Any]], *arguments: Any, errors: str
) -> beam.PCollection[Any]:
    """What a function of this process yields, which is called once, with arguments that may be side inputs.

    A pipeline is pickled, even where it runs in the process that made it, which pools and futures cannot be: what
    travels is a number.
    """
    number = next(_numbers)
    _functions[number] = function
    begun = pipeline | "Begin" >> beam.Create([number], reshuffle=False)
    return begun | "Share" >> beam.FlatMap(_call_once, errors, *arguments)


def _call_once(number: int, errors: str, *arguments: Any) -> Iterator[Any]:
    with recording(errors):
        yield from _functions.pop(number)(*arguments)
