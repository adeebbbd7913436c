"""The records of what is finished: what the analysis has made, and which shards each task has written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

from loaders.format.manifest import Shard
from pipelines import counters
from pipelines.output.directory import Output
from pipelines.storage import directories, files
from pipelines.storage.checksummed import file_checksum, read_checked, write_checked


def mark_learned(output: Output) -> None:
    """Says that the transform and the statistics are there, each file with its checksum."""
    found = {
        file.path: file_checksum(files.join(output.staged, file.path)) for file in directories.list_files(output.staged)
    }
    write_checked(output.analysis_done, json.dumps(found).encode())


def has_learned(output: Output) -> bool:
    """Whether what `mark_learned` has listed is there, byte for byte."""
    data = read_checked(output.analysis_done)
    if data is None:
        return False
    return all(file_checksum(files.join(output.staged, name)) == found for name, found in json.loads(data).items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What a task has done."""

    shards: Mapping[str, Shard]
    dropped: int  # rows that the filter left out
    digest: str = ""  # that of the rows, where the task does not say which they are; or ""

    @property
    def rows(self) -> int:
        """How many rows of the sources the task had."""
        return self.dropped + sum(shard.rows for shard in self.shards.values())

    @property
    def bytes(self) -> int:
        """The size of its shards."""
        return sum(shard.bytes for shard in self.shards.values())

    def count(self, prefix: str) -> None:
        """Counts this among the metrics, under names that begin with `prefix`."""
        for name, value in (
            ("shards", len(self.shards)),
            ("shard_bytes", self.bytes),
            ("rows", self.rows - self.dropped),
            ("dropped", self.dropped),
        ):
            counters.count(prefix + name, value)

    def to_json(self) -> dict[str, Any]:
        """This as JSON values; `from_json` reads it."""
        value = {"shards": {split: shard.to_json() for split, shard in self.shards.items()}, "dropped": self.dropped}
        return value | ({"digest": self.digest} if self.digest else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_json` wrote."""
        shards = {split: Shard.from_json(shard) for split, shard in value["shards"].items()}
        return cls(shards=shards, dropped=value["dropped"], digest=value.get("digest", ""))


def write_shard_list(written: list[Written], output: Output) -> None:
    """Writes the list of all shards, for the driver."""
    files.write_text(output.shard_list, json.dumps([task.to_json() for task in written]))


def read_shard_list(output: Output) -> list[Written]:
    """Reads what `write_shard_list` wrote."""
    return [Written.from_json(task) for task in json.loads(files.read_text(output.shard_list))]


def write_record(written: Written, path: str) -> None:
    """Writes the record of one task."""
    write_checked(path, json.dumps(written.to_json()).encode())


def read_record(path: str) -> Written | None:
    """The record of one task; None where there is none that is whole."""
    data = read_checked(path)
    return None if data is None else Written.from_json(json.loads(data))


class FinishedTasks:
    """Counts the rows of finished tasks by their records, for tasks that run in other processes."""

    def __init__(self, output: Output) -> None:
        self._directory = output.tasks
        self._rows: dict[str, int] = {}

    def rows(self) -> int:
        """How many rows have been written so far."""
        try:
            found = [file.path for file in directories.list_files(self._directory)]
            for name in set(found) - set(self._rows):
                record = read_record(files.join(self._directory, name))
                self._rows[name] = record.rows if record else 0
        except OSError:
            pass  # not there yet, or no longer
        return sum(self._rows.values())
