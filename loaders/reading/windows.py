"""The one reader: windows of an epoch, each a copy of rows in their order, and batches that are slices of them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.records import Columns
from loaders.order import epoch as order
from loaders.order import hashing, state
from loaders.order.epoch import Deal, Position, RowSequence, Runs
from loaders.order.splits import View, ViewChunks
from loaders.reading.buffers import Buffers
from loaders.storage.damage import SkippedRecords
from loaders.storage.shards import Shards
from loaders.storage.store import ShardError

I64 = npt.NDArray[np.int64]

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
    rows: I64
    groups: tuple[int, ...]
    mask: npt.NDArray[np.bool_] | None

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


class RowReader:
    """Reads runs of rows of a split into columns; what cannot be read is an error, or is noted and left out.

    Args:
        shards: The shards.
        skipped: Where rows are noted that could not be read; None if they are an error.

    Attributes:
        shards: As given.
        firsts: The number, in the split as it is stored, of each shard's first row.
    """

    def __init__(self, shards: Shards, skipped: SkippedRecords | None) -> None:
        self.shards, self._skipped = shards, skipped
        self.firsts: I64 = np.cumsum(shards.chunks.rows) - shards.chunks.rows

    def read(self, runs: Runs, target: Columns, at: I64, order: I64 | None, rows: I64) -> None:
        """Reads runs.

        Args:
            runs: The runs.
            target: As in `Shards.read_runs`.
            at: As in `Shards.read_runs`.
            order: As in `Shards.read_runs`.
            rows: The number of each row of `target`; those that are lost become `LOST`.

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


class HeldRows:
    """All rows of a view in memory, as they are stored: an epoch then reads no file.

    Args:
        reader: What reads them.
        view: The rows.
        chunks: Their chunks.
    """

    def __init__(self, reader: RowReader, view: View, chunks: ViewChunks) -> None:
        shards, buffers = reader.shards, Buffers()
        self._ranges = np.array(view.ranges, dtype=np.int64).reshape(-1, 2)
        self._columns = shards.empty(view.rows, buffers)
        lengths = self._ranges[:, 1] - self._ranges[:, 0]
        # How many rows of the split are left out before each range.
        self._left_out = self._ranges[:, 0] - np.cumsum(lengths) + lengths
        self._rows = np.arange(view.rows)
        sequence = RowSequence(shards.chunks, None, view=chunks)
        step = max(1, HELD_CHUNKS * shards.chunks.records * shards.chunks.rows_per_record)
        for start in range(0, view.rows, step):
            runs = sequence.runs(start, min(start + step, view.rows))
            sizes = runs.stop - runs.start
            reader.read(runs, self._columns, start + np.cumsum(sizes) - sizes, None, self._rows)

    def take(self, numbers: I64, buffers: Buffers) -> tuple[Columns, I64]:
        """Rows by their numbers in the split, int64 of shape [n]: their columns, and the numbers, or `LOST`."""
        ranges = np.searchsorted(self._ranges[:, 1], numbers, side="right")
        places = numbers - self._left_out[ranges] if len(numbers) else numbers
        found = {name: gather(values, places, buffers) for name, values in self._columns.items()}
        return found, np.where(self._rows[places] == LOST, LOST, numbers)


HELD_CHUNKS = 8
"""How many chunks are read at a time to hold them."""


class BatchReader:
    """Reads the rows of batches; threads may share it. It holds the last window of each of the host's streams.

    Args:
        reader: What reads rows.
        chunks: The chunks of the view that is read.
        deal: How rows are dealt to batches.
        identity: What the order depends on.
        buffers: Where windows and batches lie.
        held: All rows of the view, if they are in memory.
    """

    def __init__(
        self,
        reader: RowReader,
        chunks: ViewChunks,
        deal: Deal,
        identity: state.Identity,
        buffers: Buffers,
        *,
        held: HeldRows | None = None,
    ) -> None:
        self._reader, self._chunks, self._deal, self._held = reader, chunks, deal, held
        self._size = max(1, identity.window_rows // deal.streams)
        self._rows, self._buffers = identity.window_rows, buffers
        self._seed = identity.seed if identity.shuffle else None
        self._windows: dict[int, Window] = {}
        self._sequences: dict[int, RowSequence] = {}
        self._lock = threading.Lock()

    def batch(self, at: Position) -> RawBatch:
        """The batch at a position; rows that could not be read are not in it."""
        columns, rows, groups = self.rows(at.epoch, at.rows, at.rows + self._deal.stream_batch)
        raw = RawBatch(epoch=at.epoch, columns=columns, rows=rows, groups=groups, mask=self._deal.mask(at.rows))
        return raw.of_good()

    def rows(self, epoch: int, start: int, stop: int) -> tuple[Columns, I64, tuple[int, ...]]:
        """The rows from `start` up to `stop` of the order of each of the host's streams, one after the other.

        Returns:
            Their columns; their numbers in the split as it is stored, or `LOST`; and how many each stream has.
        """
        parts: list[tuple[Columns, I64]] = []
        groups = []
        for stream in self._deal.own:
            first, end = self._deal.bounds(stream)
            parts += self._take(epoch, stream, start, min(stop, end - first))
            groups.append(max(0, min(stop, end - first) - start))
        if not parts:
            parts = [(self._reader.shards.empty(0), np.arange(0))]
        return (*(parts[0] if len(parts) == 1 else self._joined(parts)), tuple(groups))

    def plan(self, start: int) -> I64:
        """How an epoch is read, from row `start` of each stream on, to have batches cut from it.

        Returns:
            The first row of each part and the one after its last, to be read by `rows`: int64 of shape [parts, 2]. A
            part is a batch where the host has several streams, and otherwise a window, but for the first one: a window
            may lie in thousands of shards, and the first batch waits for its own rows alone.
        """
        deal = self._deal
        stop = start + deal.batches(start) * deal.stream_batch
        cuts = np.arange(start, stop, deal.stream_batch)
        if len(deal.own) == 1:
            first, end = deal.bounds(deal.own[0])
            stop = min(stop, end - first)
            cuts = np.arange(start // self._size * self._size, stop, self._size)
            cuts = np.unique(np.concatenate([cuts, [start, start + deal.stream_batch]]))
        cuts = cuts[(cuts >= start) & (cuts < stop)]
        return np.stack([cuts, np.append(cuts[1:], stop)[: len(cuts)]], axis=1)

    def _take(self, epoch: int, stream: int, start: int, stop: int) -> Iterator[tuple[Columns, I64]]:
        """The rows from `start` up to `stop` of a stream's order, by windows."""
        while start < stop:
            number = start // self._size
            first, end = number * self._size, min(stop, (number + 1) * self._size)
            yield self._window(epoch, stream, number, start - first).rows(start - first, end - first)
            start = end

    def _window(self, epoch: int, stream: int, number: int, start: int) -> Window:
        """A window of a stream, of which the order's places from `start` on are needed."""
        with self._lock:
            found = self._windows.get(stream)
            if found is None or found.name != (epoch, number) or (self._seed is None and found.first > start):
                first = start if self._seed is None else 0
                found = Window(self, epoch, stream, number, first)
                self._windows[stream] = found
            return found

    def _sequence(self, epoch: int) -> RowSequence:
        with self._lock:
            if epoch not in self._sequences:
                key = None if self._seed is None else hashing.derive(self._seed, hashing.CHUNKS, epoch)
                # Threads may be at the end of one epoch and at the beginning of the next one.
                before = {number: self._sequences[number] for number in list(self._sequences)[-1:]}
                self._sequences = before | {epoch: RowSequence(self._reader.shards.chunks, key, view=self._chunks)}
            return self._sequences[epoch]

    def _joined(self, parts: Sequence[tuple[Columns, I64]]) -> tuple[Columns, I64]:
        """The rows of one part after the other."""
        found = {}
        for name, first in parts[0][0].items():
            arrays = [columns[name] for columns, _ in parts]
            shape = (sum(map(len, arrays)), *first.shape[1:])
            out = np.empty(shape, object) if first.dtype == object else self._buffers.empty(shape, first.dtype)
            found[name] = np.concatenate(arrays, out=out)
        return found, np.concatenate([rows for _, rows in parts])


class Window:
    """A window of a stream, whose rows are read as they are needed.

    Shards may be small, and a window have thousands: a batch waits for its own rows alone.

    Args:
        reader: The reader.
        epoch: The number of the epoch.
        stream: The number of the stream.
        number: The number of the window in the stream.
        first: The first row of the window's order that is needed.

    Attributes:
        name: The epoch and the number.
        first: As given.
    """

    def __init__(self, reader: BatchReader, epoch: int, stream: int, number: int, first: int) -> None:
        self.name, self.first = (epoch, number), first
        self._reader, self._stream = reader, stream
        self._lock = threading.Lock()
        self._runs: Runs | None = None

    def rows(self, start: int, stop: int) -> tuple[Columns, I64]:
        """The columns of rows `start` up to `stop` of the window's order, and their numbers in the split."""
        with self._lock:
            if self._runs is None:
                self._runs = self._prepare()
            reader, places = self._reader, self._places[start:stop]
            if reader._held is not None:
                return reader._held.take(self._numbers[places], reader._buffers)
            wanted = self._wanted(places)
            if wanted.any():
                reader._reader.read(self._runs[wanted], self._columns, self._begins[wanted], self._order, self._numbers)
                self._left &= ~wanted
        # The rows of large features are at their places, and so is what is not shuffled.
        ordered = self._columns if self._order is None else reader._reader.shards.scattered
        found = {
            name: values[start:stop] if name in ordered else gather(values, places, reader._buffers)
            for name, values in self._columns.items()
        }
        return found, self._numbers[places]

    def _prepare(self) -> Runs:
        """Finds what is to be read, of which nothing has been read."""
        reader, (epoch, number) = self._reader, self.name
        shards, first = reader._reader.shards, self.first
        found = order.window(reader._deal, self._stream, number, rows=reader._rows, seed=reader._seed, epoch=epoch)
        runs = reader._sequence(epoch).runs(found.start + first, found.stop)
        sizes = runs.stop - runs.start
        self._places, self._begins = found.places, first + np.cumsum(sizes) - sizes
        self._left = np.ones(len(runs), np.bool_)
        shifts = np.repeat(reader._reader.firsts[runs.shard] + runs.start - self._begins, sizes)
        self._numbers = np.concatenate([np.zeros(first, np.int64), shifts + np.arange(first, first + len(shifts))])
        self._order: I64 | None = None
        self._columns: Columns = {}
        if reader._held is None:
            self._columns = shards.empty(found.stop - found.start, reader._buffers)
            if reader._seed is not None:
                self._order = np.empty_like(found.places)
                self._order[found.places] = np.arange(len(found.places))
        return runs

    def _wanted(self, places: I64) -> npt.NDArray[np.bool_]:
        """Which runs hold these rows of the window and have not been read: bool of shape [runs]."""
        if len(places) == len(self._places) or not self._left.any():
            return self._left.copy()
        wanted = np.zeros(len(self._left), np.bool_)
        wanted[np.searchsorted(self._begins, places, side="right") - 1] = True
        return wanted & self._left


def gather(values: npt.NDArray[Any], places: I64, buffers: Buffers) -> npt.NDArray[Any]:
    """The rows of an array at some places."""
    if values.dtype == object:
        return values[places]
    out = buffers.empty((len(places), *values.shape[1:]), values.dtype)
    # No place is outside; in the mode that looks for one, NumPy would write to another array first.
    return np.take(values, places, axis=0, out=out, mode="clip") if len(places) else out
