"""A function called on each of many items, by whichever workers there are."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from pipelines.runners.failures import Recorded, recording
from pipelines.runners.pool import Workers
from pipelines.runners.worker import Function


class Distribute(beam.PTransform):  # type: ignore[misc]
    """Calls `function(item, shared, *arguments)` for each item.

    The runner places the items on its workers; where this process, or a pool of workers, has been given `shared`, it
    does the work.

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
        """Says what is called.

        Args:
            function: The function, of a module.
            items: The items.
            shared: The second argument of every call, or the reference to it.
            arguments: Further arguments; may be side inputs.
            workers: Who does the work; None where the runner places the items.
            errors: The directory where errors are recorded.
        """
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


class Begun(beam.PTransform):  # type: ignore[misc]
    """Waits for what was begun before there was a pipeline.

    Expects a pipeline of this process. Outputs a PCollection of the results.
    """

    def __init__(self, results: Iterator[Any], *, errors: str) -> None:
        super().__init__()
        self._results = results
        self._errors = errors

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the waiting."""
        return _call_here(pipeline, lambda: self._results, errors=self._errors)


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
