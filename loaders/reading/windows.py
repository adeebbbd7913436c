"""Reads the batches of one iteration: a window of each of a host's streams, and of these the rows of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from loaders.format.records import Columns
from loaders.order import hashing, state
from loaders.order.epoch import Deal, Position, RowSequence, Run, Runs, window
from loaders.order.splits import ViewChunks
from loaders.storage.damage import SkippedRecords
from loaders.storage.shards import Shards
from loaders.storage.store import ShardError

LOST = -1
"""The number of a row that could not be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawBatch:
    """A batch as it is read.

    Attributes:
        epoch: The number of its epoch.
        columns: The columns of its rows.
        rows: The number of each row in the split as it is stored, int64 of shape [rows].
        groups: How many of them each stream has.
        mask: Which rows of the padded batch they are, bool of shape [batch]; None where batches are not padded.
    """

    epoch: int
    columns: Columns
    rows: np.ndarray[Any, np.dtype[np.int64]]
    groups: tuple[int, ...]
    mask: np.ndarray[Any, np.dtype[np.bool_]] | None

    def of_zeros(self, columns: Columns) -> RawBatch:
        """This batch with one row of zeros, for which `columns` has a place."""
        for values in columns.values():
            if values.dtype != object:
                values[...] = 0
        return dataclasses.replace(self, columns=columns, rows=np.zeros(1, np.int64), groups=(1,))

    def of_good(self) -> RawBatch:
        """This batch without the rows that could not be read, whose number is `LOST`."""
        good = self.rows != LOST
        if good.all() or self.mask is None:
            return self
        mask = self.mask.copy()
        mask[mask] = good
        return dataclasses.replace(
            self,
            columns={name: values[good] for name, values in self.columns.items()},
            rows=self.rows[good],
            groups=tuple(int(group.sum()) for group in np.split(good, np.cumsum(self.groups)[:-1])),
            mask=mask,
        )


class BatchReader:
    """Reads the batches of one iteration; it holds a window of each of the host's streams.

    Args:
        shards: The shards.
        chunks: The chunks of the view that is read.
        deal: How rows are dealt to batches.
        rows: How many rows a window of one stream alone has.
        identity: What the order depends on.
        skipped: Where rows are noted that could not be read; None if they are an error.
    """

    def __init__(
        self,
        shards: Shards,
        chunks: ViewChunks,
        deal: Deal,
        rows: int,
        identity: state.Identity,
        *,
        skipped: SkippedRecords | None = None,
    ) -> None:
        self._shards, self._chunks, self._deal, self._skipped = shards, chunks, deal, skipped
        self._size = max(1, rows // deal.streams)
        self._rows = rows
        self._seed = identity.seed if identity.shuffle else None
        self._epoch = -1
        self._firsts = np.cumsum(shards.chunks.rows) - shards.chunks.rows
        self._windows = {stream: WindowBuffer() for stream in deal.own}

    def batch(self, at: Position) -> RawBatch:
        """The batch at a position."""
        if at.epoch != self._epoch:
            key = None if self._seed is None else hashing.derive(self._seed, hashing.CHUNKS, at.epoch)
            self._epoch = at.epoch
            self._sequence = RowSequence(self._shards.chunks, key, view=self._chunks)
        deal, parts, groups = self._deal, [BatchPart(self._shards.empty(0), np.arange(0))], []
        for stream in deal.own:
            first, end = deal.bounds(stream)
            stop = min(at.rows + deal.stream_batch, end - first)
            parts += self._take(stream, at.rows, stop)
            groups.append(max(0, stop - at.rows))
        parts = parts[1:] if len(parts) > 1 else parts
        mask = None
        if deal.remainder == "pad":
            mask = (np.arange(deal.stream_batch) < np.array(groups)[:, np.newaxis]).reshape(-1)
        joined = parts[0] if len(parts) == 1 else BatchPart.join(parts)
        raw = RawBatch(epoch=at.epoch, columns=joined.columns, rows=joined.rows, groups=tuple(groups), mask=mask)
        return raw if self._skipped is None else raw.of_good()

    def _take(self, stream: int, start: int, stop: int) -> list[BatchPart]:
        """The rows from `start` up to `stop` of a stream's order."""
        size, parts = self._size, []
        while start < stop:
            number = start // size
            end = min(stop, (number + 1) * size)
            buffer = self._window(stream, number, start - number * size)
            places = buffer.places[start - number * size : end - number * size]
            self._fill(buffer, places)
            columns = {name: values.take(places, axis=0) for name, values in buffer.columns.items()}
            parts.append(BatchPart(columns, buffer.rows[places]))
            start = end
        return parts

    def _window(self, stream: int, number: int, start: int) -> WindowBuffer:
        """A window of a stream, of which the order's places from `start` on are needed."""
        buffer = self._windows[stream]
        if buffer.name == (self._epoch, number):
            return buffer
        found = window(self._deal, stream, number, rows=self._rows, seed=self._seed, epoch=self._epoch)
        first, end = self._deal.bounds(stream)
        if not buffer.columns:
            # One place for all windows: fresh memory costs as much as filling it.
            buffer.columns = self._shards.empty(min(end - first, self._size))
        # In the order of a permutation, any row of the window may come next.
        at = start if self._seed is None else 0
        buffer.begin(self._sequence.runs(found.start + at, found.stop), at, self._firsts)
        buffer.name, buffer.places = (self._epoch, number), found.places
        return buffer

    def _fill(self, buffer: WindowBuffer, places: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Reads what some rows of a window need and has not been read."""
        # Shards may be small, and a window have thousands: a batch waits for its own rows alone.
        wanted = buffer.wanted(places) if buffer.left.any() else buffer.left
        if not wanted.any():
            return
        runs, begins = buffer.runs[wanted], buffer.begins[wanted]
        try:
            self._shards.read_runs(runs, buffer.columns, begins)
        except ShardError:
            if self._skipped is None:
                raise
            for run, at in zip(runs, begins.tolist(), strict=True):
                self._read(run, buffer, at, self._skipped)
        buffer.left &= ~wanted

    def _read(self, run: Run, buffer: WindowBuffer, at: int, skipped: SkippedRecords) -> None:
        try:
            self._shards.read(run.shard, run.start, run.stop, buffer.columns, at)
        except ShardError as error:
            self._salvage(run, buffer, at, error, skipped)

    def _salvage(self, run: Run, buffer: WindowBuffer, at: int, error: ShardError, skipped: SkippedRecords) -> None:
        """Reads a run record by record, and notes those that cannot be read."""
        full = self._shards.chunks.rows_per_record
        for record in range(run.start // full, -(-run.stop // full)):
            low, high = max(run.start, record * full), min(run.stop, (record + 1) * full)
            begin = at + low - run.start
            try:
                if error.record is None:  # the shard as a whole
                    raise error
                self._shards.read(run.shard, low, high, buffer.columns, begin)
            except ShardError as found:
                buffer.rows[begin : begin + high - low] = LOST
                rows = min(full, int(self._shards.chunks.rows[run.shard]) - record * full)
                skipped.note(found, record=record, rows=rows)


class BatchPart:
    """Some rows of a batch: their columns, and their numbers in the split as it is stored."""

    def __init__(self, columns: Columns, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.columns, self.rows = columns, rows

    @classmethod
    def join(cls, parts: Sequence[BatchPart]) -> BatchPart:
        """The rows of one after the other."""
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        return cls(columns, np.concatenate([part.rows for part in parts]))


class WindowBuffer:
    """A window whose rows are read as they are needed.

    Attributes:
        name: Its epoch and number.
        columns: Places for the columns of its rows, as the epoch's sequence has them.
        rows: The number of each in the split as it is stored, int64 of shape [rows].
        places: Which of these rows comes at each place of the order, int64 of shape [rows].
        runs: The runs that are its rows.
        begins: The row of the window at which each run begins, int64 of shape [runs].
        left: Which runs have not been read, bool of shape [runs].
    """

    def __init__(self) -> None:
        self.name = (-1, -1)
        self.columns: Columns = {}
        self.rows = self.places = self.begins = np.arange(0)
        self.runs = Runs(shard=self.rows, start=self.rows, stop=self.rows)
        self.left = np.zeros(0, np.bool_)

    def begin(self, runs: Runs, at: int, firsts: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Takes the runs of another window, of which nothing has been read.

        Args:
            runs: The runs.
            at: The row of the window at which the first one begins.
            firsts: The number, in the split as it is stored, of each shard's first row.
        """
        sizes = runs.stop - runs.start
        self.runs, self.begins = runs, at + np.cumsum(sizes) - sizes
        self.left = np.ones(len(runs), np.bool_)
        shifts = np.repeat(firsts[runs.shard] + runs.start - self.begins, sizes)
        self.rows = np.concatenate([np.zeros(at, np.int64), shifts + np.arange(at, at + len(shifts))])

    def wanted(self, places: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which runs hold these rows of the window and have not been read: bool of shape [runs]."""
        wanted = np.zeros(len(self.left), np.bool_)
        wanted[np.searchsorted(self.begins, places, side="right") - 1] = True
        return wanted & self.left
