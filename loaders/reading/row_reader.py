"""Rows of a split as they are stored: read by runs, with what is lost noted, or held in memory all at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loaders.buffers import Buffers
from loaders.format.decode import Columns
from loaders.order.epoch import RowSequence, Runs
from loaders.order.split_slices import View, ViewChunks
from loaders.storage.damaged_records import SkippedRecords
from loaders.storage.shards import Shards
from loaders.storage.store import ShardError

if TYPE_CHECKING:
    from loaders.storage.cache import Cache

I64 = npt.NDArray[np.int64]

LOST = -1
"""The number of a row that could not be read."""

HELD_CHUNKS = 8
"""How many chunks are read at a time where all rows are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows come from.

    Attributes:
        root: Where the data set is.
        view: Which of its rows are meant.
        fingerprint: The digest of the data set, which names it in the cache.
        cache: Where copies of the shards are kept, or None.
        skipped: Where rows are noted that cannot be read; None if they are an error.
    """

    root: str
    view: View
    fingerprint: str
    cache: Cache | None = None
    skipped: SkippedRecords | None = None


class RowReader:
    """Reads rows into columns; what cannot be read is an error, or is noted and left out.

    Attributes:
        view: The rows of the source.
        shards: Their shards, of which the features of some names are read.
        chunks: Their chunks.
        firsts: The number, in the split as it is stored, of each shard's first row.
    """

    def __init__(self, source: Source, names: Collection[str]) -> None:
        self.view, self._skipped = source.view, source.skipped
        self.shards = shards = Shards(
            source.root,
            self.view.manifest,
            self.view.split,
            names=names,
            cache=source.cache,
            data_set=source.fingerprint,
        )
        self.chunks = ViewChunks.of(shards.chunks, self.view.ranges)
        self._ends: I64 = np.cumsum(shards.chunks.rows)
        self.firsts: I64 = self._ends - shards.chunks.rows

    def read(self, runs: Runs, target: Columns, at: I64, order: I64 | None, rows: I64) -> None:
        """Reads runs as `Shards.read_runs` does.

        Of `rows`, the number of each row of the target, those that are lost become `LOST`.

        Raises:
            ShardError: If rows cannot be read, and none may be left out.
        """
        try:
            self.shards.read_runs(runs, target, at, order)
        except ShardError:
            if self._skipped is None:
                raise
            for number in np.arange(len(runs))[:, np.newaxis]:
                self._read_or_skip(runs[number], target, at[number], order, rows, self._skipped)

    def take(self, numbers: I64, target: Columns, rows: I64) -> None:
        """Reads n rows into columns of n, by their numbers in the split as it is stored: int64 of shape [n].

        What becomes of `rows`, which may be `numbers`, is as in `read`.

        Raises:
            ShardError: As in `read`.
        """
        shard, places = np.searchsorted(self._ends, numbers, side="right"), np.arange(len(numbers))
        start = numbers - self.firsts[shard]
        try:
            self.shards.take(shard, start, target, places)
        except ShardError:
            if self._skipped is None:
                raise
            for place in places[:, np.newaxis]:
                run = Runs(shard=shard[place], start=start[place], stop=start[place] + 1)
                self._read_or_skip(run, target, place, None, rows, self._skipped)

    def _read_or_skip(
        self, run: Runs, target: Columns, at: I64, order: I64 | None, rows: I64, skipped: SkippedRecords
    ) -> None:
        """Reads a run, record by record where that fails, and notes those that cannot be read."""
        try:
            self.shards.read_runs(run, target, at, order)
            return
        except ShardError as found:
            error = found
        if error.passing:  # nothing is known to be damaged
            raise error
        full, (shard, start, stop) = self.shards.chunks.rows_per_record, (int(run.shard[0]), run.start, run.stop)
        for record in range(int(start[0]) // full, -(-int(stop[0]) // full)):
            low, high = np.maximum(start, record * full), np.minimum(stop, (record + 1) * full)
            begin = at + low - start
            try:
                if error.record is None:  # the shard as a whole
                    raise error
                self.shards.read_runs(Runs(shard=run.shard, start=low, stop=high), target, begin, order)
            except ShardError as found:
                if found.passing:
                    raise
                rows[begin[0] : begin[0] + high[0] - low[0]] = LOST
                held = min(full, int(self.shards.chunks.rows[shard]) - record * full)
                skipped.note(found, record=record, rows=held)

    def stored_steps(self) -> Iterator[tuple[int, Runs]]:
        """All rows of the view as they are stored, a few chunks at a time: the number of the first, and the runs."""
        chunks, rows = self.shards.chunks, self.view.rows
        sequence = RowSequence(self.chunks, None)
        step = max(1, HELD_CHUNKS * chunks.records * chunks.rows_per_record)
        for start in range(0, rows, step):
            yield start, sequence.runs(start, min(start + step, rows))


class HeldRows:
    """All rows of a view in memory, as they are stored: an epoch then reads no file."""

    def __init__(self, reader: RowReader) -> None:
        self._ranges, rows = reader.view.ranges, reader.view.rows
        self._columns = reader.shards.empty(rows, Buffers().empty)
        lengths = self._ranges[:, 1] - self._ranges[:, 0]
        # How many rows of the split are left out before each range.
        self._left_out = self._ranges[:, 0] - np.cumsum(lengths) + lengths
        self._rows = np.arange(rows)
        for start, runs in reader.stored_steps():
            sizes = runs.stop - runs.start
            reader.read(runs, self._columns, start + np.cumsum(sizes) - sizes, None, self._rows)

    def take(self, numbers: I64, buffers: Buffers) -> tuple[Columns, I64]:
        """Rows by their numbers in the split, int64 of shape [n]: their columns, and the numbers, or `LOST`."""
        ranges = np.searchsorted(self._ranges[:, 1], numbers, side="right")
        places = numbers - self._left_out[ranges] if len(numbers) else numbers
        found = {name: gather(values, places, buffers) for name, values in self._columns.items()}
        return found, np.where(self._rows[places] == LOST, LOST, numbers)


def gather(values: npt.NDArray[Any], places: I64, buffers: Buffers) -> npt.NDArray[Any]:
    """The rows of an array at some places."""
    if values.dtype == object:
        return values[places]
    out = buffers.empty((len(places), *values.shape[1:]), values.dtype)
    # No place is outside; in the mode that looks for one, NumPy would write to another array first.
    return np.take(values, places, axis=0, out=out, mode="clip") if len(places) else out
