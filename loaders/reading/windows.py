"""The one reader: windows of an epoch, each a copy of rows in their order, and batches that are slices of them."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from loaders.buffers import Buffers
from loaders.format.decode import Columns
from loaders.order import epoch as order
from loaders.order import hashing, state
from loaders.order.epoch import BatchShare, Position, RowSequence, Runs
from loaders.reading.row_reader import LOST, HeldRows, RowReader, gather

I64 = npt.NDArray[np.int64]


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

    def of_good(self) -> RawBatch:
        """This batch without the rows that could not be read, whose number is `LOST`."""
        if self.mask is None or (good := self.rows != LOST).all():
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


THREAD_NAME = "npyflow-ahead"

AHEAD_MAPPED, AHEAD_WINDOWS = 1, 2
"""How many windows of each stream are read before they are due: of files that are mapped, and where each waits for
requests. Of all streams together they have once and twice the bytes of a window of one."""


ROWS_BESIDE = 8
"""The first batch is read by itself where the chunks that hold its rows have so many times as many."""

PERMUTED_PARTS = 16
"""Where all rows are permuted, so many windows are read for one: a shard is still asked for many rows at once."""


class BatchReader:
    """Reads the rows of batches; threads may share it. It holds the last window of each of the host's streams.

    It reads the rest of a window, and the next ones, while batches are cut from this one.

    Windows and batches lie in `buffers`, and are copied from `held` where all rows are in memory. `ahead` says whether
    windows of mapped files are read before they are due; others, which wait for requests, are.
    """

    def __init__(
        self,
        reader: RowReader,
        deal: BatchShare,
        identity: state.Identity,
        buffers: Buffers,
        *,
        held: HeldRows | None = None,
        ahead: bool = True,
    ) -> None:
        self._reader, self._deal, self._held = reader, deal, held
        self._size = max(1, identity.window_rows // deal.streams)
        self._window_of: type[WindowRows] = WindowRows
        if identity.shuffle == "global":
            self._window_of = PermutedWindow
            self._size = max(1, self._size // PERMUTED_PARTS // deal.stream_batch) * deal.stream_batch
        self._rows, self._buffers = identity.window_rows, buffers
        self._seed = identity.seed if identity.shuffle else None
        self._ahead = 0 if held is not None else AHEAD_WINDOWS
        if reader.shards.store.is_mapped:
            self._ahead = min(self._ahead, AHEAD_MAPPED * ahead)
        self._windows: dict[int, dict[tuple[int, int], WindowRows]] = {stream: {} for stream in deal.own}
        self._asked: dict[int, tuple[int, int]] = {}
        self._sequences: dict[int, RowSequence] = {}
        self._lock = threading.Lock()
        # Rows that are shuffled lie in all chunks of a window, of which the first batch waits for its own rows alone:
        # but not where each would be a request, or have its whole record parsed.
        found = reader.shards.store.is_mapped and reader.shards.chunks.record_bytes is not None
        self.is_begun = self._seed is None or identity.shuffle == "global" or held is not None or not found

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
        if self._ahead and len(self._deal.own) > 1:  # no stream waits for the one before
            for stream in self._deal.own:
                self._read_ahead(epoch, stream, start // self._size)
        for stream in self._deal.own:
            first, end = self._deal.bounds(stream)
            parts += self._take(epoch, stream, start, min(stop, end - first))
            groups.append(max(0, min(stop, end - first) - start))
        if not parts:
            return self.no_rows()
        return (*(parts[0] if len(parts) == 1 else self._joined(parts)), tuple(groups))

    def no_rows(self) -> tuple[Columns, I64, tuple[int, ...]]:
        """What `rows` returns where there are none."""
        return self._reader.shards.empty(0), np.arange(0), (0,) * len(self._deal.own)

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
            if self._ahead:
                self._read_ahead(epoch, stream, number)
            start = end

    def _window(self, epoch: int, stream: int, number: int, start: int) -> WindowRows:
        """A window of a stream, of which the order's places from `start` on are needed."""
        with self._lock:
            windows, name = self._windows[stream], (epoch, number)
            if name not in windows or (self._seed is None and windows[name].first > start):
                first = start if self._seed is None and self._held is None else 0
                windows[name] = self._window_of(self, epoch, stream, number, first)
            if next(iter(windows)) != name:
                last = (epoch, number + self._ahead)
                self._windows[stream] = {found: window for found, window in windows.items() if name <= found <= last}
            return windows[name]

    def _read_ahead(self, epoch: int, stream: int, number: int) -> None:
        """Lets a thread read what is left of a window of a stream, and then others the next ones, all at once."""
        if self._asked.get(stream) == (epoch, number):
            return
        self._asked[stream] = (epoch, number)
        first, end = self._deal.bounds(stream)
        last = min(number + self._ahead, -(-(end - first) // self._size) - 1)
        wanted = []
        with self._lock:
            windows = self._windows[stream]
            for name in ((epoch, found) for found in range(number, last + 1)):
                if name not in windows:
                    windows[name] = self._window_of(self, epoch, stream, name[1], 0)
                if not windows[name].is_asked:
                    windows[name].is_asked = True
                    wanted.append(windows[name])
        if wanted:
            threading.Thread(target=_load, args=(wanted,), name=THREAD_NAME, daemon=True).start()

    def _sequence(self, epoch: int) -> RowSequence:
        with self._lock:
            if epoch not in self._sequences:
                key = None if self._seed is None else hashing.derive(self._seed, hashing.CHUNKS, epoch)
                # Threads may be at the end of one epoch and at the beginning of the next one.
                before = {number: self._sequences[number] for number in list(self._sequences)[-1:]}
                self._sequences = before | {epoch: RowSequence(self._reader.chunks, key)}
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


def _load(windows: Sequence[WindowRows]) -> None:
    """Reads a window, which is due, and then the others."""
    windows[0].load()
    for window in windows[1:]:
        threading.Thread(target=window.load, name=THREAD_NAME, daemon=True).start()


class WindowRows:
    """A window of a stream, by its number in an epoch, whose rows are read as they are needed.

    Shards may be small, and a window have thousands: a batch waits for its own rows alone.

    Attributes:
        name: The epoch and the number.
        first: The first row of the window's order that is needed.
        is_asked: Whether all of its rows have been asked for.
        is_whole: Whether they are there, in their order.
    """

    def __init__(self, reader: BatchReader, epoch: int, stream: int, number: int, first: int) -> None:
        self.name, self.first, self.is_asked, self.is_whole = (epoch, number), first, False, False
        self._reader, self._stream = reader, stream
        self._lock = threading.Lock()
        self._runs: Runs | None = None
        self._columns: Columns = {}
        self._numbers: I64 = np.arange(0)

    def rows(self, start: int, stop: int) -> tuple[Columns, I64]:
        """The columns of rows `start` up to `stop` of the window's order, and their numbers in the split."""
        reader = self._reader
        if not reader.is_begun:
            reader.is_begun = True
            if (alone := self._rows_alone(start, stop)) is not None:
                return alone
        with self._lock:
            self._read(start, stop)
            if self.is_whole:
                return {name: values[start:stop] for name, values in self._columns.items()}, self._numbers[start:stop]
            places = self._places[start:stop]
            return self._in_order(places, slice(start, stop)), self._numbers[places]

    def _rows_alone(self, start: int, stop: int) -> tuple[Columns, I64] | None:
        """As `rows`, without what lies beside them in their chunks; None where that is little."""
        reader = self._reader._reader
        with self._lock:
            if self._runs is None:
                self._runs = self._prepare()
            places = self._places[start:stop]
            wanted = self._runs[self._wanted(places)]
            if (wanted.stop - wanted.start).sum() < ROWS_BESIDE * len(places):
                return None
        numbers = self._numbers[places]
        columns = reader.shards.empty(len(numbers), self._reader._buffers.empty)
        reader.take(numbers, columns, numbers)
        return columns, numbers

    def load(self) -> None:
        """Reads all rows that have not been read. What fails is tried again, and raised, when it is asked for."""
        with contextlib.suppress(Exception), self._lock:
            self._read(self.first, None)

    def _read(self, start: int, stop: int | None) -> None:
        """Reads the rows at places of the window's order; once all are there, they are put in this order at once."""
        if self.is_whole:
            return
        if self._runs is None:
            self._runs = self._prepare()
        reader, wanted = self._reader, self._wanted(self._places[start:stop])
        if reader._held is not None:
            self._columns, self._numbers = reader._held.take(self._numbers[self._places], reader._buffers)
        else:
            if wanted.any():
                reader._reader.read(self._runs[wanted], self._columns, self._begins[wanted], self._order, self._numbers)
                self._left &= ~wanted
            if self._left.any():
                return
            self._columns, self._numbers = self._in_order(self._places, slice(None)), self._numbers[self._places]
        self.is_whole = True

    def _in_order(self, places: I64, found: slice) -> Columns:
        """The columns of some places of the order, which are `found` where rows lie in it."""
        # The rows of large features are at their places, and so is what is not shuffled.
        ordered = self._columns if self._order is None else self._reader._reader.shards.scattered
        return {
            name: values[found] if name in ordered else gather(values, places, self._reader._buffers)
            for name, values in self._columns.items()
        }

    def _prepare(self) -> Runs:
        """Finds what is to be read, of which nothing has been read."""
        reader, (epoch, number) = self._reader, self.name
        shards, first = reader._reader.shards, self.first
        found = order.window(reader._deal, self._stream, number, rows=reader._rows, seed=reader._seed, epoch=epoch)
        runs = reader._sequence(epoch).runs(found.start + first, found.stop)
        sizes = runs.stop - runs.start
        self._places, self._begins = found.places, first + np.cumsum(sizes) - sizes
        chunk = shards.chunks.holding(runs.shard, runs.start)
        self._chunk = np.cumsum(np.diff(chunk, prepend=-1) != 0) - 1
        self._left = np.ones(len(runs), np.bool_)
        shifts = np.repeat(reader._reader.firsts[runs.shard] + runs.start - self._begins, sizes)
        self._numbers = np.concatenate([np.zeros(first, np.int64), shifts + np.arange(first, first + len(shifts))])
        self._order: I64 | None = None
        if reader._held is None:
            self._columns = shards.empty(found.stop - found.start, reader._buffers.empty)
            if reader._seed is not None:
                self._order = np.empty_like(found.places)
                self._order[found.places] = np.arange(len(found.places))
        return runs

    def _wanted(self, places: I64) -> npt.NDArray[np.bool_]:
        """Which runs of the chunks that hold these rows have not been read: bool of shape [runs]."""
        if len(places) == len(self._places) or not self._left.any():
            return self._left.copy()
        wanted = np.zeros(len(self._left), np.bool_)
        wanted[self._chunk[np.searchsorted(self._begins, places, side="right") - 1]] = True
        chosen: npt.NDArray[np.bool_] = wanted[self._chunk] & self._left
        return chosen


class PermutedWindow(WindowRows):
    """Rows of a stream of which every epoch is a permutation of all rows: they are read one by one, in their order."""

    def _read(self, start: int, stop: int | None) -> None:
        """Reads all rows."""
        if self.is_whole:
            return
        reader, (epoch, number) = self._reader, self.name
        assert reader._seed is not None, "rows that are not shuffled are read as they are stored"
        first, end = number * reader._size, (number + 1) * reader._size
        rows = order.permuted_rows(reader._deal, self._stream, first, end, seed=reader._seed, epoch=epoch)
        self._numbers = reader._reader.view.stored(rows)
        if reader._held is not None:
            self._columns, self._numbers = reader._held.take(self._numbers, reader._buffers)
        else:
            self._columns = reader._reader.shards.empty(len(rows), reader._buffers.empty)
            reader._reader.take(self._numbers, self._columns, self._numbers)
        self.is_whole = True
