"""What a loader could not read and left out. Pure Python."""

from __future__ import annotations

import dataclasses
import logging
import threading
from typing import Any, Literal

from loaders.storage.store import ShardError

OnCorrupt = Literal["error", "skip"]
ON_CORRUPT: tuple[OnCorrupt, ...] = ("error", "skip")

LOGGER = logging.getLogger("loaders")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DamagedRecord:
    """Rows that could not be read.

    Attributes:
        file: The path of their shard.
        record: The number of their record in it.
        rows: How many rows it holds.
        message: What was expected, and found.
    """

    file: str
    record: int
    rows: int
    message: str


class SkippedRecords:
    """The records that were left out; each is told once, as a warning of the logger `loaders`."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], DamagedRecord] = {}
        self._lock = threading.Lock()

    def note(self, error: ShardError, *, record: int, rows: int) -> None:
        """Notes a record of so many rows, and the error that was raised when it was read."""
        found = DamagedRecord(file=error.file, record=record, rows=rows, message=error.message)
        with self._lock:
            new = (found.file, record) not in self._found
            # Of a shard that is missing one line is enough.
            told = error.record is None and any(file == found.file for file, _ in self._found)
            self._found[found.file, record] = found
        if new and not told:
            LOGGER.warning("%s; the rows are left out", error)

    def found(self) -> tuple[DamagedRecord, ...]:
        """What was left out so far, in the order of files and records."""
        with self._lock:
            return tuple(self._found[key] for key in sorted(self._found))

    def __getstate__(self) -> dict[str, Any]:
        return {"_found": dict(self._found)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
