"""Pass 2: one task for each shard number. A shard is a pure function of the plan and the transform."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import google_crc32c
import numpy as np
import numpy.typing as npt

from loaders.format.encode import encode_records, encode_variable_records
from loaders.format.manifest import Shard
from loaders.format.record_layout import record_layout
from loaders.format.spec import is_variable
from pipelines import counters
from pipelines.errors import naming_file
from pipelines.output.directory import Output
from pipelines.output.tasks import Written, read_record, write_record, write_shard_list
from pipelines.plan.plan import Plan, Task
from pipelines.reading import split_assignment
from pipelines.reading.batches import Columns, take
from pipelines.reading.columns import read_columns
from pipelines.runners.distribute import Distribute
from pipelines.runners.failures import Recorded
from pipelines.runners.handoff import Handoff
from pipelines.runners.pool import Workers
from pipelines.storage import files
from pipelines.storage.checksummed import file_checksum
from pipelines.storage.retry import retrying
from pipelines.write.transform import apply_transform, load_transform

STAGE = "write"

BATCH_BYTES = 2 * 2**20
"""Rows that are gathered, transformed and encoded together: what of them is in the processor's caches is not fetched
again."""

BATCH_ROWS, LARGEST_BATCH_BYTES = 8, 8 * 2**20
"""Rows of a batch even where they are large: the constants of the transform, as many as a row has elements, are read
for each batch."""


Frames = npt.NDArray[np.uint8] | list[bytes]
"""Records as they stand in a file: a matrix of frames of one size, or a list of frames."""


@dataclasses.dataclass(eq=False, kw_only=True)
class WriteShards(beam.PTransform):  # type: ignore[misc]
    """Writes every shard, and the list of them.

    Expects a pipeline. Outputs a PCollection of one element, there when the list has been written.
    """

    plan: Handoff[Plan]
    output: Output
    transform_ready: beam.PCollection[Any] | None = None  # of one element, there when the transform is; None: it is
    workers: Workers | None = None  # who has the plan and does the work; None: the runner places it

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[None]:
        """Wires the pass."""
        wait = () if self.transform_ready is None else (beam.pvalue.AsList(self.transform_ready),)
        tasks = range(self.plan.load().task_count)  # Beam takes three seconds to pickle 100,000 objects
        where: Any = {"workers": self.workers, "errors": self.output.errors}
        return (
            pipeline
            | "WriteShards" >> Distribute(_write_when_ready, tasks, self.plan, self.output, *wait, **where)
            | "GatherShards" >> beam.combiners.ToList()
            | "KeepShardList" >> beam.Map(Recorded(write_shard_list, self.output.errors), self.output)
        )


def _write_when_ready(task: int, plan: Plan, output: Output, _ready: Iterable[object] = ()) -> Written:
    return write_task(plan.task(task), plan, output)


def write_task(task: Task, plan: Plan, output: Output) -> Written:
    """Writes a task's shards, unless an earlier run of the same build finished them.

    Raises:
        DataError: If a source changed since preflight, or holds a value that cannot be stored.
        OSError: If a shard, or the task's record, cannot be written; its `filename` is that file's.
    """
    finished = find_finished(task, plan, output)
    if finished is not None:
        return finished
    spans = plan.blocks(task)
    columns = read_columns(plan, spans, stage=STAGE)
    order = plan.row_order(spans)
    place = output.transform if plan.adds_rows else output.new_transform
    transform = load_transform(place) if plan.config.has_transform else None
    stored = functools.partial(apply_transform, transform, plan.config)
    return write_rows(task, plan, output, columns, order, split_assignment.assign(plan, spans)[order], stored=stored)


def write_rows(
    task: Task,
    plan: Plan,
    output: Output,
    columns: Columns,
    order: npt.NDArray[np.int64],
    split_of: npt.NDArray[np.intp],
    *,
    stored: Callable[[Columns], Columns],
    digest: str = "",
) -> Written:
    """Writes the shards of a task whose rows are at hand, and then its record.

    Rows have an `order`, and in this order a split as a number in those of the task's group, -1 for a row of none.
    `stored` gives rows as the shards hold them; the digest is as of `Written`. Errors are those of `write_task`.
    """
    batches = functools.partial(_frames, plan=plan, stored=stored, columns=columns)
    chunk_records = plan.chunk_records if is_variable(plan.specs) else None
    shards = {
        split: retrying(
            functools.partial(
                _write_shard,
                plan.shard_file(split, task.index),
                output,
                functools.partial(batches, order[split_of == number]),
                chunk_records=chunk_records,
            )
        )
        for number, split in enumerate(plan.groups[task.group].splits)
    }
    written = Written(shards=shards, dropped=int(np.count_nonzero(split_of < 0)), digest=digest)
    write_record(written, output.task_record(task))
    _advance(written, plan)
    written.count("")
    return written


def find_finished(task: Task, plan: Plan, output: Output, *, digest: str = "") -> Written | None:
    """What the record of a task says that was finished with the same rows; None where there is none."""
    finished = read_record(output.task_record(task))
    if finished is None or finished.digest != digest:
        return None
    if not all(_is_whole(output, shard) for shard in finished.shards.values()):
        return None
    _advance(finished, plan)
    finished.count("found_")
    return finished


def _advance(written: Written, plan: Plan) -> None:
    """Shows rows as written when their shards are: a disk may be full until then."""
    counters.advance(STAGE, rows=written.rows, size=written.rows * plan.table.row_bytes)


def _is_whole(output: Output, shard: Shard) -> bool:
    """Whether a shard is there, byte for byte; a store that keeps all of an object or nothing is asked for its size."""
    path = output.path(shard.file)
    if files.writes_whole(path):
        return files.exists(path) and files.size(path) == shard.bytes
    return file_checksum(path, synced=output.synced) == shard.crc32c


def _write_shard(
    file: str, output: Output, batches: Callable[[], Iterator[tuple[int, Frames]]], *, chunk_records: int | None
) -> Shard:
    """Writes batches of frames, each with its number of rows, to a file that has its name only when it is whole.

    Where `chunk_records` is given, the shard has the offset of the first of each so many records. Errors are OSErrors
    as `naming_file` raises them.
    """
    path, rows, size, checksum = output.path(file), 0, 0, 0
    # To copy an object, for its name, is as much work for a store as to write it.
    whole = files.writes_whole(path)
    temporary = path if whole else output.temporary(uuid.uuid4().hex)
    sizes = [np.zeros(0, dtype=np.int64)]
    with naming_file(path):
        try:
            with files.create(temporary, synced=output.synced) as shard:
                for count, frames in batches():
                    if chunk_records is not None:
                        sizes.append(np.array([len(frame) for frame in frames], dtype=np.int64))
                    data = b"".join(frames) if isinstance(frames, list) else frames.tobytes()
                    shard.write(data)
                    rows, size, checksum = rows + count, size + len(data), google_crc32c.extend(checksum, data)
            if not whole:
                files.rename(temporary, path)
        except BaseException:
            if not whole:
                with contextlib.suppress(OSError):  # what went wrong says more; what is left goes when the build ends
                    files.remove(temporary)
            raise
    offsets = None
    if chunk_records is not None:
        ends = np.cumsum(np.concatenate(sizes))
        offsets = tuple((ends - np.concatenate(sizes))[::chunk_records].tolist())
    return Shard(file=file, rows=rows, bytes=size, crc32c=f"{checksum:08x}", offsets=offsets)


def _frames(
    rows: npt.NDArray[np.int64], *, plan: Plan, stored: Callable[[Columns], Columns], columns: Columns
) -> Iterator[tuple[int, Frames]]:
    """The frames of a batch of whole records at a time, and how many rows they hold; the last record may hold fewer."""
    size = plan.rows_per_record
    batch = max(BATCH_BYTES // plan.table.row_bytes, min(BATCH_ROWS, LARGEST_BATCH_BYTES // plan.table.row_bytes), 1)
    batch = max(batch // size, 1) * size
    for start in range(0, len(rows), batch):
        numbers = rows[start : start + batch]
        found = stored(take(columns, numbers))
        whole = len(numbers) // size * size
        for first, last, per_record in ((0, whole, size), (whole, len(numbers), len(numbers) - whole)):
            if last > first:
                piece = {name: values[first:last] for name, values in found.items()}
                yield last - first, _encode(plan, piece, rows=per_record)


def _encode(plan: Plan, columns: Columns, *, rows: int) -> Frames:
    size = plan.rows_per_record
    if is_variable(plan.specs):
        return encode_variable_records(plan.specs, columns, rows=rows, rows_per_record=size)
    return encode_records(record_layout(plan.specs, rows=rows, rows_per_record=size), columns)
