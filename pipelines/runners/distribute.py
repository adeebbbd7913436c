"""A function called on each of many items, by whichever workers there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam

from pipelines.runners.fork import Call, Job, Workers


class Spread(beam.PTransform):  # type: ignore[misc]
    """Calls `function(item, given, *arguments)` for each item.

    The runner places the items on its workers; where there are forked workers of this machine, which have been given
    `given`, they share the items.

    Expects a pipeline. Outputs a PCollection of what the calls return.
    """

    def __init__(
        self, function: Call, items: Sequence[Any], given: Any, *arguments: Any, workers: Workers | Job | None
    ) -> None:
        """Says what is called.

        Args:
            function: The function, of a module.
            items: The items.
            given: The second argument of every call.
            arguments: Further arguments; may be side inputs.
            workers: The forked workers, or a job that they have begun already; None where the runner places the items.
        """
        super().__init__()
        self._function = function
        self._items = items
        self._given = given
        self._arguments = arguments
        self._workers = workers

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the calls."""
        if self._workers is None:
            return (
                pipeline
                | "List" >> beam.Create(self._items)
                | "Reshuffle" >> beam.Reshuffle()
                | "Call" >> beam.Map(self._function, self._given, *self._arguments)
            )
        job = self._workers
        if isinstance(job, Workers):
            job = Job(job, self._function, self._items)
        return (
            pipeline
            | "Begin" >> beam.Create([job.number], reshuffle=False)
            | "Share" >> beam.FlatMap(_run, *self._arguments)
        )


def _run(number: int, *arguments: Any) -> Iterator[Any]:
    return Job.run(number, *arguments)
