"""How fast this machine builds from some sources: what a build does, done to a sample of them and timed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipelines.analyze import fit, rounds
from pipelines.analyze.accumulate import add_units
from pipelines.forecast.estimate import Calibration
from pipelines.lazy import beam
from pipelines.maintain.reuse import Existing, copy_learned
from pipelines.output.directory import Output
from pipelines.plan.plan import Plan
from pipelines.runners.beam import run_pipeline
from pipelines.runners.process_setup import quick_imports
from pipelines.storage import files
from pipelines.storage.temporary import temporary_directory

SAMPLE_SECONDS = 1.5
"""How long each round of pass 1, and pass 2, is measured, apart from what it takes to begin."""

MOST_SAMPLES = 8
TASK_BYTES = 16 * 2**20
"""The sources of a task of the sample. Its blocks are as large, and as scattered, as those of a task of the build."""

T = TypeVar("T")


def calibrate(plan: Plan, existing: Existing | None = None) -> Calibration:
    """Measures a build on a sample of its sources; nothing is left of it.

    Units of pass 1 and tasks of pass 2 are taken from all over the sources. What is learned from the sample makes a
    real transform, which pass 2 runs, unless that of an existing data set is used. A function of the user's own that
    asks tf.transform's own analyzers needs an analysis of all rows: such a plan is none for this.

    Raises:
        DataError: If the sample holds values that cannot be used, or none of a feature.
    """
    begun = time.monotonic()
    with quick_imports():
        import tensorflow_transform.beam  # noqa: F401  # as a build does

        from pipelines.analyze import beam as analyze
        from pipelines.analyze import export
    imports = time.monotonic() - begun
    with temporary_directory("sample") as directory:
        output = Output(directory)
        speeds: list[float] = []
        analyzed, sum_bytes, wiring = 0, 0, _timed(_run_small_pipeline)[0]
        if existing is not None:
            copy_learned(existing, output)
        else:
            known, speeds, analyzed, sum_bytes = _fit(plan)
            fitted = analyze.write_fitted(known, plan, output.staged)
            if plan.config.has_transform:
                wiring += _timed(functools.partial(export.export_transform, fitted, plan, output))[0]
        written = _write(plan, output)
    return Calibration(
        imports=imports,
        wiring=wiring,
        rounds=tuple(speeds),
        rows_analyzed=analyzed,
        sum_bytes=sum_bytes,
        seconds=time.monotonic() - begun,
        **written,
    )


def _fit(plan: Plan) -> tuple[fit.Known, list[float], int, int]:
    """What a sample of the training rows tells, the seconds for a row in each round, and the most rows in one.

    And the bytes of the sums of a unit, those of all rounds together.
    """
    features = rounds.analyzed_features(plan)
    known = fit.begin(features.values())
    merge = functools.partial(rounds.merge, features)
    medians, most, sum_bytes = [], 0, 0
    for needs in rounds.schedule(features.values()):
        added, speeds, rows = [], [], 0
        for unit in _for_a_while(spread_out(len(plan.training_units), MOST_SAMPLES)):
            seconds, found = _timed(functools.partial(add_units, (unit, unit + 1), plan, needs, known))
            count = sum(span.rows for span in plan.training_units.spans(unit))
            added.append(found)
            speeds.append(seconds / count)
            rows += count
        medians.append(statistics.median(speeds))
        known = fit.update(features, known, functools.reduce(merge, added))
        most = max(most, rows)
        sum_bytes += len(pickle.dumps(added[0]))
    return known, medians, most, sum_bytes


def _run_small_pipeline() -> None:
    """Begins what Beam begins once in a process, and wires and runs steps such as a build has."""
    with run_pipeline([]) as pipeline:
        _ = pipeline | beam.Create([0]) | beam.Reshuffle() | beam.combiners.ToList() | beam.Map(len)


def _write(plan: Plan, output: Output) -> dict[str, Any]:
    """What pass 2 takes: the attributes of a `Calibration` that are about it."""
    from pipelines.write.shards import write_task

    sample = in_small_tasks(plan)
    tasks = [sample.task(number) for number in spread_out(sample.task_count, MOST_SAMPLES)]
    base = _memory("VmRSS")
    first, _ = _timed(functools.partial(write_task, tasks[0], sample, output))
    files.remove(output.task_record(tasks[0]))
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
        file.write("5")  # forgets the peak
    before = _memory("VmRSS")
    speeds, rows, written_bytes, held = [], 0, 0, 0
    for task in _for_a_while(tasks):
        seconds, done = _timed(functools.partial(write_task, task, sample, output))
        count = sum(span.rows for span in sample.blocks(task))
        speeds.append(seconds / max(count, 1))
        rows += count
        held = max(held, count * sample.table.row_bytes)
        written_bytes += sum(shard.bytes for shard in done.shards.values())
    speed = statistics.median(speeds)
    usual = speed * sum(span.rows for span in sample.blocks(tasks[0]))
    return {
        "begin_writing": max(first - usual, 0.0),
        "write": speed,
        "shard_row_bytes": written_bytes / max(rows, 1),
        "base_bytes": base,
        "batch_bytes": max(_memory("VmHWM") - before - held, 0) + before - base,
        "rows_written": rows,
    }


def in_small_tasks(plan: Plan) -> Plan:
    """The same plan with more tasks, so that each has about `TASK_BYTES` of the sources, in blocks of the same size."""
    groups = []
    for number, group in enumerate(plan.groups):
        wanted = -(-plan.table.rows_of(group.parts) * plan.table.row_bytes // TASK_BYTES)
        tasks = max(group.tasks, min(wanted, plan.block_count(number)))
        groups.append(dataclasses.replace(group, tasks=tasks))
    return dataclasses.replace(plan, groups=tuple(groups))


def spread_out(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `count`, evenly spread, in an order in which the first few are so too."""
    chosen = min(count, most)
    numbers = [(2 * number + 1) * count // (2 * chosen) for number in range(chosen)]
    return numbers[::2] + numbers[1::2]


def _for_a_while(items: Sequence[T]) -> Iterator[T]:
    """As many of some items as can be worked on in `SAMPLE_SECONDS`, and the first in any case."""
    begun = time.monotonic()
    for number, item in enumerate(items):
        if number and time.monotonic() - begun > SAMPLE_SECONDS:
            return
        yield item


def _timed(function: Callable[[], T]) -> tuple[float, T]:
    begun = time.monotonic()
    result = function()
    return time.monotonic() - begun, result


def _memory(which: str) -> int:
    """A line of this process's memory in bytes, where the system says; 0 elsewhere."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith(f"{which}:"):
                return int(line.split()[1]) * 1024
    return 0
