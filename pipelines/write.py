"""Pass 2: one task for each shard number. A shard is a pure function of the plan and the transform."""

from __future__ import annotations

import dataclasses
import functools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Self

import apache_beam as beam
import google_crc32c
import numpy as np
import numpy.typing as npt

from loaders.manifest import Shard
from pipelines import files, progress
from pipelines.columns import Columns, read_columns, take
from pipelines.encode import encode_records, record_layout
from pipelines.output import Output
from pipelines.plan import Plan, Task
from pipelines.transform import apply_transform, load_transform

STAGE = "write"
BATCH_BYTES = 8 * 2**20

Shards = dict[str, Shard]
"""Split → the shard of one task."""


class WriteShards(beam.PTransform):  # type: ignore[misc]
    """Writes every shard, and the list of them.

    Expects a pipeline. Outputs a PCollection of one element, there when the list has been written.

    Attributes:
        plan: The plan.
        output: Where the data set is written.
        transform_ready: A PCollection of one element, there when the transform has been written, or None where it is
            there already.
    """

    def __init__(self, plan: Plan, output: Output, *, transform_ready: beam.PCollection[Any] | None) -> None:
        super().__init__()
        self.plan = plan
        self.output = output
        self.transform_ready = transform_ready

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[None]:
        """Wires the pass."""
        wait = () if self.transform_ready is None else (beam.pvalue.AsList(self.transform_ready),)
        return (
            pipeline
            | "ListTasks" >> beam.Create(list(self.plan.tasks()))
            | "SpreadTasks" >> beam.Reshuffle()
            | "WriteShards" >> beam.Map(_write_when_ready, self.plan, self.output, *wait).with_output_types(Shards)
            | "GatherShards" >> beam.combiners.ToList()
            | "KeepShardList" >> beam.Map(keep_shard_list, self.output)
        )


def _write_when_ready(task: Task, plan: Plan, output: Output, _ready: Iterable[object] = ()) -> Shards:
    return write_task(task, plan, output)


def write_task(task: Task, plan: Plan, output: Output) -> Shards:
    """Writes a task's shards, unless an earlier run of the same build finished them.

    Args:
        task: The task.
        plan: The plan.
        output: Where the data set is written.

    Returns:
        The shard of each split of the task's group.

    Raises:
        DataError: If a source changed since preflight, or holds a value that cannot be stored.
    """
    record = output.task_record(task)
    finished = _finished(record, output)
    if finished is not None:
        rows = sum(shard.rows for shard in finished.values())
        progress.advance(STAGE, rows=rows, size=rows * plan.table.row_bytes)
        return finished
    spans = plan.blocks(task)
    columns = read_columns(plan, spans, stage=STAGE)
    order = plan.row_order(spans)
    split_of = np.concatenate([plan.split_of(span) for span in spans])[order] if spans else order
    transform = load_transform(output.transform) if plan.config.transformed else None
    batches = functools.partial(_frames, plan=plan, transform=transform, columns=columns)
    shards = {
        split: _write_shard(plan.shard_file(split, task.index), output, batches(order[split_of == number]))
        for number, split in enumerate(plan.groups[task.group].splits)
    }
    files.write_text(record, json.dumps(dump_shards(shards)))
    return shards


def _finished(record: str, output: Output) -> Shards | None:
    """The shards that a record lists, where all of them are still there in full."""
    if not files.exists(record):
        return None
    shards = load_shards(json.loads(files.read_text(record)))
    paths = {output.path(shard.file): shard.bytes for shard in shards.values()}
    complete = all(files.exists(path) and files.size(path) == size for path, size in paths.items())
    return shards if complete else None


def dump_shards(shards: Shards) -> dict[str, dict[str, Any]]:
    """Shards as JSON values; `load_shards` reads them."""
    return {split: dataclasses.asdict(shard) for split, shard in shards.items()}


def load_shards(value: Mapping[str, Mapping[str, Any]]) -> Shards:
    """Reads what `dump_shards` gave."""
    return {split: Shard(**shard) for split, shard in value.items()}


def keep_shard_list(shards: list[Shards], output: Output) -> None:
    """Writes the list of all shards, for the driver."""
    files.write_text(output.shard_list, json.dumps(list(map(dump_shards, shards))))


def _write_shard(file: str, output: Output, batches: Iterator[tuple[int, npt.NDArray[np.uint8]]]) -> Shard:
    """Writes batches of frames, each with its number of rows, to a file that gets its name when it is whole."""
    temporary, rows = output.temporary(uuid.uuid4().hex), 0
    try:
        with ShardFile.create(temporary) as shard:
            for count, frames in batches:
                shard.write(frames.tobytes())
                rows += count
        files.rename(temporary, output.path(file))
    except BaseException:
        files.remove(temporary)
        raise
    return Shard(file=file, rows=rows, bytes=shard.bytes, crc32c=f"{shard.crc32c:08x}")


def _frames(
    rows: npt.NDArray[np.int64], *, plan: Plan, transform: Any, columns: Columns
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """The frames of the rows, a batch of whole records at a time; the last record may hold fewer rows.

    Yields:
        How many rows the frames hold, and the frames.
    """
    size = plan.rows_per_record
    batch = max(BATCH_BYTES // plan.table.row_bytes // size, 1) * size
    for start in range(0, len(rows), batch):
        numbers = rows[start : start + batch]
        stored = apply_transform(transform, plan.config.features, take(columns, numbers))
        whole = len(numbers) // size * size
        for first, last, per_record in ((0, whole, size), (whole, len(numbers), len(numbers) - whole)):
            if last > first:
                layout = record_layout(plan.specs, rows=per_record, rows_per_record=size)
                yield (
                    last - first,
                    encode_records(layout, {name: values[first:last] for name, values in stored.items()}),
                )


class ShardFile:
    """A shard as it is being written: counts its bytes and their checksum."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self.crc32c = 0

    @classmethod
    def create(cls, path: str) -> Self:
        """Creates the file."""
        return cls(files.create(path))

    def write(self, data: bytes) -> None:
        """Appends bytes."""
        self._file.write(data)
        self.bytes += len(data)
        self.crc32c = google_crc32c.extend(self.crc32c, data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
