"""What an output directory says of a build that runs, has stopped, or is finished; nothing but its files is read.

So a build can be watched from any machine that sees its output, whatever runs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from loaders.format.manifest import Manifest
from pipelines.errors import NoBuildError
from pipelines.output.directory import Output, read_manifest
from pipelines.output.lock import Holder
from pipelines.output.state import is_committed, read_description, read_state
from pipelines.output.tasks import read_record
from pipelines.results import Block, Result, show_bytes, show_seconds
from pipelines.storage import directories, files
from pipelines.storage.file_systems import StorageOptions, configure
from pipelines.storage.files import Path

RATE_TASKS = 64
"""The finished tasks, the last ones, that the speed is taken from."""

WATCH_SECONDS = 5.0

IDLE_SECONDS = 300.0
"""After so long without a new file, where no driver is at work either, watching ends."""

READ_RECORDS = 1000
"""Records of tasks that are read at a time; an object store gives some ten a second to one reader."""

State = Literal["finished", "building", "appending"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status(Result):
    """How far a build, or an append, is.

    Attributes:
        root: The output directory.
        state: Whether a data set is finished, is being built, or gets more rows.
        sources: The directory of the sources; None where it is not known, as of a finished data set.
        analyzed: Whether pass 1 is done.
        tasks: How many tasks there are.
        tasks_done: How many of them are done.
        rows: How many rows the sources have, or a finished data set.
        rows_done: How many rows the finished tasks have read; None where none is known.
        bytes_done: The bytes of the finished shards.
        shards: How many shards there are to be.
        shards_done: How many of them are written.
        exact: Whether rows and bytes are those of all finished tasks; else they are reckoned from some of them.
        last: When the last task finished, in seconds since 1970; None where that is not known.
        tasks_per_second: The speed of the last tasks.
        seconds_left: What is left of writing at this speed.
        at_work: The machine and the process that build, in words; None where there is none. A cluster may go on with
            a job whose driver has ended.
        idle_seconds: How long ago the last file was written, where nobody is at work; None where that is not known.
    """

    root: str
    state: State
    sources: str | None = None
    analyzed: bool = False
    tasks: int | None = None
    tasks_done: int = 0
    rows: int | None = None
    rows_done: int = 0
    bytes_done: int = 0
    shards: int | None = None
    shards_done: int = 0
    exact: bool = True
    last: float | None = None
    tasks_per_second: float | None = None
    seconds_left: float | None = None
    at_work: str | None = None
    idle_seconds: float | None = None

    def blocks(self) -> list[Block]:
        """A line for each thing that is known."""
        return [*describe_status(self)]


class Watcher:
    """Reads how far a build is, again and again; each record of a task is read once."""

    def __init__(self, root: str) -> None:
        self._output = Output(root)
        self._records: dict[str, tuple[int, int, int]] = {}

    def read(self) -> Status:
        """How far the build is now; errors are those of `status`."""
        output = self._output
        state = read_state(output)
        if files.exists(output.manifest) and (state is None or is_committed(output, state)):
            return self._finished(read_manifest(output.root))
        if state is None:
            raise NoBuildError(f"{output.root}: expected a data set, finished or being built; found none")
        return self._unfinished(state)

    def _finished(self, manifest: Manifest) -> Status:
        shards = [shard for split in manifest.splits.values() for shard in split]
        rows = sum(shard.rows for shard in shards)
        return Status(
            root=self._output.root,
            state="finished",
            analyzed=True,
            rows=rows + manifest.dropped,
            rows_done=rows + manifest.dropped,
            bytes_done=sum(shard.bytes for shard in shards),
            shards=len(shards),
            shards_done=len(shards),
        )

    def _unfinished(self, state: Mapping[str, Any]) -> Status:
        output = self._output
        try:
            found = {file.path: file.modified for file in directories.list_files(output.build)}
        except OSError:  # it has just been finished, or cleared
            found = {}
        about = read_description(output)
        done = {path: when for path, when in found.items() if path.startswith("tasks/") and path.endswith(".json")}
        rows, size, shards = self._add_up(sorted(done, key=lambda path: (-done[path], path)))
        begun = max(found.get("plan.pickle", 0.0), found.get("analysis.done", 0.0))
        rate = speed([when for when in done.values() if when >= begun], begun=begun)
        tasks = about.tasks
        if tasks is None and "plan" in state:
            tasks = sum(state["plan"][2:])
        left = None if rate is None or tasks is None else (tasks - len(done)) / rate
        return Status(
            root=output.root,
            state="appending" if state.get("work") == "append" else "building",
            sources=about.sources,
            analyzed="analysis.done" in found,
            tasks=tasks,
            tasks_done=len(done),
            rows=about.rows,
            rows_done=rows,
            bytes_done=size,
            shards=about.shards,
            shards_done=shards,
            exact=len(self._records) >= len(done),
            last=max(done.values(), default=0.0) or None,
            tasks_per_second=rate,
            seconds_left=left,
            at_work=(at_work := self._at_work()),
            idle_seconds=None if at_work or not any(found.values()) else max(time.time() - max(found.values()), 0.0),
        )

    def _at_work(self) -> str | None:
        with contextlib.suppress(OSError):
            holder = Holder.loads(files.read_bytes(self._output.lock))
            # A lock in a local directory, which may be shared, is not written anew: only its own machine knows more.
            if holder is not None and (
                not holder.gone or (holder.host != socket.gethostname() and files.is_local(self._output.root))
            ):
                return str(holder)
        return None

    def _add_up(self, newest_first: Sequence[str]) -> tuple[int, int, int]:
        """Rows, bytes and shards of the finished tasks; reckoned from those that are known where there are many."""
        there = set(newest_first)
        self._records = {path: found for path, found in self._records.items() if path in there}
        for path in [path for path in newest_first if path not in self._records][:READ_RECORDS]:
            with contextlib.suppress(OSError):  # it is no longer there
                if (written := read_record(files.join(self._output.build, path))) is not None:
                    self._records[path] = (written.rows, written.bytes, len(written.shards))
        if not self._records:
            return 0, 0, 0
        factor = len(newest_first) / len(self._records)
        rows, size, shards = (round(sum(column) * factor) for column in zip(*self._records.values(), strict=True))
        return rows, size, shards


def status(output: Path, *, storage_options: StorageOptions | None = None) -> Status:
    """How far a build or an append is, whatever runs it and wherever; nothing but the files of the output is read.

    Args:
        output: The directory of the data set.
        storage_options: As in `refit`.

    Raises:
        NoBuildError: If the directory holds neither a data set nor a build.
        ManifestError: If its manifest cannot be read.
    """
    configure(storage_options or {})
    return Watcher(os.fspath(output)).read()


def watch(watcher: Watcher) -> Iterator[Status]:
    """How far a build is, again and again until it is finished, or nobody has done anything for `IDLE_SECONDS`."""
    while True:
        found = watcher.read()
        yield found
        if found.state == "finished" or (found.idle_seconds or 0.0) > IDLE_SECONDS:
            return
        time.sleep(WATCH_SECONDS)


def speed(times: Sequence[float], *, begun: float) -> float | None:
    """How many of the last `RATE_TASKS` were done a second, by when they were done; None where that does not tell."""
    ends = [begun, *sorted(times)][-RATE_TASKS - 1 :]
    seconds = ends[-1] - ends[0]
    return (len(ends) - 1) / seconds if seconds > 0 and begun > 0 else None


def describe_status(found: Status, *, now: float | None = None) -> list[str]:
    """What a person is shown: a line for each thing that is known."""
    about = "" if found.exact else "about "
    written = f"{show_bytes(found.bytes_done)} in {found.shards_done:,}"
    if found.state == "finished":
        return [f"{found.root}: finished; {found.rows_done:,} rows, {written} shards"]
    what = "an append" if found.state == "appending" else "a build"
    lines = [f"{found.root}: {what} that is not finished" + (f", of {found.sources}" if found.sources else "")]
    if found.state == "building":
        lines.append(f"analysis: {'done' if found.analyzed else 'not done'}")
    lines.append(
        f"writing: {found.tasks_done:,}{_of(found.tasks)} tasks; {about}{found.rows_done:,}{_of(found.rows)} rows, "
        f"{written}{_of(found.shards)} shards"
    )
    if found.last is not None:
        ago = max((time.time() if now is None else now) - found.last, 0.0)
        lines.append(f"the last task was done {show_seconds(ago)} ago")
    if found.tasks_per_second is not None and found.seconds_left is not None:
        lines.append(
            f"speed: {found.tasks_per_second:.3g} tasks/s; writing would take {show_seconds(found.seconds_left)} more"
        )
    if found.at_work is not None:
        lines.append(f"at work: {found.at_work}")
    else:
        lines.append("at work: no driver on record; the same command goes on where a build has stopped")
    return lines


def _of(total: int | None) -> str:
    return "" if total is None else f" of {total:,}"
