"""Counts of what reading and writing took: for Beam's metrics, and for whoever watches this process.

The names are `requests`, `bytes_read` and `retries`, all of files that are not local.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipelines import progress

NAMESPACE = "npyflow"

REQUESTS, BYTES_READ, RETRIES = "requests", "bytes_read", "retries"

_thread = threading.local()


def count(name: str, value: int = 1) -> None:
    """Counts something.

    Inside a step of a Beam pipeline the counter `npyflow/name` is increased, which `take` reads when the pipeline has
    run; elsewhere what `progress.counting` counts: `counter.read(name).rows`.

    Args:
        name: What is counted.
        value: How much is added.
    """
    gathered: dict[str, int] | None = getattr(_thread, "gathered", None)
    if gathered is not None:
        gathered[name] = gathered.get(name, 0) + value
    elif _in_step():
        from apache_beam.metrics.metric import Metrics

        Metrics.counter(NAMESPACE, name).inc(value)
    else:
        progress.advance(name, rows=value, size=0)


def _in_step() -> bool:
    """Whether this thread runs a step of a Beam pipeline, so that its counters go with the pipeline's result."""
    if "apache_beam" not in sys.modules:  # where it was never imported no step runs
        return False
    from apache_beam.metrics.execution import MetricsEnvironment

    return MetricsEnvironment.current_container() is not None


def take(result: Any) -> None:
    """Adds what the steps of a pipeline have counted to what this process has counted itself.

    Args:
        result: What Beam gives of a pipeline that has run; some runners have no counters.
    """
    from apache_beam.metrics.metric import MetricsFilter

    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    except (AttributeError, NotImplementedError, ValueError):
        return
    for each in found:
        progress.advance(each.key.metric.name, rows=each.result or 0, size=0)


def count_read(stage: str, *, rows: int, size: int) -> None:
    """Counts rows that a stage has read, and their bytes: as progress, and as `<stage>_rows` and `<stage>_bytes`."""
    progress.advance(stage, rows=rows, size=size)
    count(f"{stage}_rows", rows)
    count(f"{stage}_bytes", size)


@contextmanager
def gathering() -> Iterator[Mapping[str, int]]:
    """Keeps what this thread counts while the context is open, for another thread to count.

    Beam knows which step a thread works for only in the threads that it has started itself.
    """
    before, found = getattr(_thread, "gathered", None), dict[str, int]()
    _thread.gathered = found
    try:
        yield found
    finally:
        _thread.gathered = before
