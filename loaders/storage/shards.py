"""Reads the rows of a split's shards, from memory-mapped files where they are local and not small."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loaders.format import decode
from loaders.format.decode import Columns, RecordError
from loaders.format.manifest import Manifest
from loaders.format.record_layout import RecordLayout, record_layout
from loaders.order.chunks import CHUNK_BYTES, Chunks
from loaders.order.epoch import Run, Runs
from loaders.order.hashing import distinct
from loaders.storage import shard_identity
from loaders.storage.pieces import Empty, FrameSlice, empty_column, runs_of
from loaders.storage.store import ShardError, Store

if TYPE_CHECKING:
    from loaders.storage.cache import Cache

I64 = npt.NDArray[np.int64]

# Up to so many bytes of several runs are copied together first: to check and to decode each by itself takes longer.
TOGETHER_BYTES = 1 << 19

READS_AT_ONCE = 16
"""How many ranges of shards that are not mapped are read at a time: each waits tens of milliseconds."""

MAPPED_AT_ONCE = 2
"""How many threads read a window of files that are mapped: one copies while another one compares checksums."""

SCATTERED_BYTES = 1 << 10
"""Rows of so many bytes are put at their places in an order at once, which is fastest; smaller ones are gathered."""

_CHECKED: dict[tuple[Any, ...], npt.NDArray[np.bool_]] = {}
"""Which records this process has checked, by file; a file that is written again is another one."""


_MENDING = threading.Lock()


class Shards:
    """The rows of a split, read from files, which are mapped when they are first read, or copied to a cache.

    It can be pickled; the copy maps the files anew.

    The features of some names are read. Where copies of the shards are kept in a cache, `data_set` is its name there.

    Attributes:
        chunks: The chunks of the split.
        features: The features that are read, sorted by name.
        scattered: The names of those whose rows go to their places in an order at once; see `read_runs`.
        store: The bytes of the shards.
    """

    def __init__(
        self,
        root: str,
        manifest: Manifest,
        split: str,
        *,
        names: Collection[str],
        cache: Cache | None = None,
        data_set: str = "",
    ) -> None:
        self.chunks = Chunks.of(manifest, split)
        self.features = tuple(feature for feature in manifest.features if feature.name in names)
        self._all = manifest.features
        self.store = Store(root, manifest.shards(split), cache=cache, data_set=data_set)
        self._full = manifest.rows_per_record
        self._names = frozenset(names)
        self._layouts = hash((self._all, self._full))
        self.scattered = frozenset(
            spec.name
            for spec in self.features
            if not spec.variable and spec.row_bytes >= SCATTERED_BYTES and spec.encoding(self._full) != "int64_list"
        )
        self._last: tuple[int, int, Columns] = (-1, -1, {})

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": (-1, -1, {})}

    def empty(self, rows: int, empty: Empty = np.empty) -> Columns:
        """Columns to read rows into, of arrays that `empty` makes, without values; strings are empty."""
        return {spec.name: empty_column(spec, rows, empty) for spec in self.features}

    def read_runs(self, runs: Runs, target: Columns, at: I64, order: I64 | None = None) -> None:
        """Reads runs of consecutive rows.

        Args:
            runs: The runs.
            target: Columns to read into, C-contiguous.
            at: The row of `target` where each begins, int64 of shape [runs].
            order: Where each row of `target` goes instead in the columns of `scattered`, int64 of shape [rows]; None
                where that is its place.

        Raises:
            ShardError: If a shard is missing, or a record is damaged: the first one of the runs. Rows of the runs after
                it may be read or not.
        """
        if self._are_short(runs):
            sizes = runs.stop - runs.start
            ranks = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            shard, start, place = (np.repeat(values, sizes) for values in (runs.shard, runs.start, at))
            self.take(shard, start + ranks, target, place + ranks, order)
            return
        # Records that differ in size are parsed one by one.
        row_bytes = TOGETHER_BYTES if self.chunks.record_bytes is None else self.chunks.record_bytes / self._full
        group = (np.cumsum(runs.stop - runs.start) * row_bytes).astype(np.int64) // TOGETHER_BYTES
        if not self.store.is_mapped:  # each waits for its first byte, or for a copy
            group = np.arange(len(runs), dtype=np.int64)
        parts = np.split(np.arange(len(runs)), np.flatnonzero(group[1:] != group[:-1]) + 1)
        self._read_parts(
            lambda part: self._read_group(runs[part], target, at[part], order), parts, mapped=MAPPED_AT_ONCE
        )

    def _are_short(self, runs: Runs) -> bool:
        """Whether most runs are of the chunk that the one before is of: one by one they would take long."""
        chunk = self.chunks.holding(runs.shard, runs.start)
        return 2 * int((chunk[1:] == chunk[:-1]).sum()) > len(runs)

    def _read_parts(self, read: Callable[[I64], None], parts: Sequence[I64], *, mapped: int = 1) -> None:
        """Reads parts, several at once, or of files that are mapped a share by each of so many threads.

        An error is that of the first part.
        """
        size = -(-len(parts) // mapped) if self.store.is_mapped else 1
        shares = [parts[first : first + size] for first in range(0, len(parts), max(1, size))]

        def read_share(share: Sequence[I64]) -> None:
            for part in share:
                read(part)

        if len(shares) == 1:
            read_share(shares[0])
        elif shares:
            threads = min(len(shares), mapped if self.store.is_mapped else READS_AT_ONCE)
            with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(read_share, shares):
                    pass

    def _read_group(self, runs: Runs, target: Columns, at: I64, order: I64 | None) -> None:
        """Reads a few runs; the error is that of the first that cannot be read."""
        read = self._read_parsed if self.chunks.record_bytes is None else self._read_fixed
        try:
            read(runs, target, at, order)
        except ShardError:
            if len(runs) == 1:
                self._read_again(int(runs.shard[0]), read, runs, target, at, order)
                return
            for number in np.arange(len(runs))[:, np.newaxis]:
                self._read_group(runs[number], target, at[number], order)

    def _read_again(self, shard: int, read: Callable[..., None], *given: Any) -> None:
        """Reads again what could not be read of a shard."""
        with _MENDING:
            try:
                read(*given)  # another thread may have made the copy anew
            except ShardError:
                # A copy that is damaged is made anew.
                if not self.store.discard(shard):
                    raise
                read(*given)

    def _read_fixed(self, runs: Runs, target: Columns, at: I64, order: I64 | None) -> None:
        """Reads runs of records of one size."""
        pieces = [
            # Files that are mapped are not held open by what is copied.
            piece if len(runs) == 1 else dataclasses.replace(piece, frames=piece.frames.copy())
            for run, place in zip(runs, at.tolist(), strict=True)
            for piece in self._pieces(run, place)
        ]
        self._check_pieces(pieces)
        for piece in pieces:
            rows = slice(piece.at, piece.at + piece.high - piece.low)
            for spec in self.features:
                values = piece.values(spec)
                if order is not None and spec.name in self.scattered:
                    places = order[rows].reshape(values.shape[:2])
                    decode.as_bytes(target[spec.name], spec)[places] = values
                else:
                    decode.put(values, spec, target[spec.name][rows])

    def _pieces(self, run: Run, at: int) -> Iterator[FrameSlice]:
        """The rows of a run in full records, and those in the shorter one at the end of the shard."""
        full, rows = self._full, int(self.chunks.rows[run.shard])
        tail = rows // full * full
        for count, start, stop in (
            (full, run.start, min(run.stop, tail)),
            (rows - tail, max(run.start, tail), run.stop),
        ):
            if start < stop:
                first = start // full
                frames, layout = self._frames(run.shard, first, -(-stop // full), count)
                low = start - first * full
                yield FrameSlice(run.shard, first, frames, layout, low, low + stop - start, at + start - run.start)

    def _read_parsed(self, runs: Runs, target: Columns, at: I64, order: I64 | None) -> None:
        """Reads runs of records that differ in size."""
        full = self._full
        for run, place in zip(runs, at.tolist(), strict=True):
            for record, rows in self._parsed(run.shard, run.start // full, -(-run.stop // full)):
                first = record * full
                low, high = max(run.start, first), min(run.stop, first + full)
                places = slice(place + low - run.start, place + high - run.start)
                for name, values in rows.items():
                    target[name][self._there(name, places, order)] = values[low - first : high - first]

    def take(self, shard: I64, rows: I64, target: Columns, places: I64, order: I64 | None = None) -> None:
        """Reads n rows; the checksum of a record is compared when it is first taken from.

        Args:
            shard: The number of the shard of each row, int64 of shape [n].
            rows: The number of each row in it, int64 of shape [n].
            target: Columns to read into.
            places: The rows of `target` where they go, int64 of shape [n].
            order: As in `read_runs`.

        Raises:
            ShardError: If a shard is missing, or a record is damaged.
        """
        group = shard if self.store.has_files else self.chunks.holding(shard, rows)
        by_group = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[by_group], prepend=-1))
        # What is taken is copied once more, so a little at a time.
        step = max(1, TOGETHER_BYTES // max(1, sum(spec.row_bytes for spec in self.features if not spec.variable)))
        rank = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
        parts = np.split(by_group, np.flatnonzero(rank % step == 0))[1:]

        def read(part: I64) -> None:
            given = int(shard[part[0]]), rows[part], target, places[part], order
            try:
                self._take(*given)
            except ShardError:
                self._read_again(given[0], self._take, *given)

        self._read_parts(read, parts)

    def _take(self, shard: int, rows: I64, target: Columns, places: I64, order: I64 | None) -> None:
        """Reads any rows of a shard."""
        record, row = np.divmod(rows, self._full)
        numbers = distinct(record)
        if self.chunks.record_bytes is None:
            for first, end in runs_of(numbers):
                for number, columns in self._parsed_again(shard, first, end):
                    held = record == number
                    for name, values in columns.items():
                        target[name][self._there(name, places[held], order)] = values[row[held]]
            return
        tail, rest = divmod(int(self.chunks.rows[shard]), self._full)
        for count, some in ((self._full, numbers[numbers < tail]), (rest, numbers[numbers == tail])):
            # All from one view of the file, or a request for each run of records.
            together = [(int(some[0]), int(some[-1]) + 1)] if len(some) and self.store.is_local(shard) else None
            for first, end in together or runs_of(some):
                inside = (record >= first) & (record < end)
                frames, layout = self._frames(shard, first, end, count)
                self._check_some(shard, first, frames, layout, some[(some >= first) & (some < end)] - first)
                for spec in self.features:
                    found = decode.values(frames, layout, spec)[record[inside] - first, row[inside]]
                    there = self._there(spec.name, places[inside], order)
                    target[spec.name][there] = decode.decoded(found, spec)

    def _there(self, name: str, places: Any, order: I64 | None) -> Any:
        """Where rows of a feature go: at places of the target, or at those that the order has there."""
        return places if order is None or name not in self.scattered else order[places]

    def _parsed_again(self, shard: int, first: int, end: int) -> Sequence[tuple[int, Columns]]:
        """The columns of records whose rows differ in size; the last one is kept, as the next row is often its."""
        last = self._last
        if last[:2] == (shard, first) and end - first == 1:
            return [last[1:]]
        found = self._parsed(shard, first, end)
        self._last = (shard, *found[-1])
        return found

    def _check_some(
        self, shard: int, first: int, frames: npt.NDArray[np.uint8], layout: RecordLayout, numbers: I64
    ) -> None:
        """Checks some of the frames, by their numbers among them."""
        # Many small records at once, and no more memory than a chunk.
        step = max(1, CHUNK_BYTES // layout.frame_bytes)
        good = self._good(shard)
        left = numbers if good is None else numbers[~good[numbers + first]]
        for start in range(0, len(left), step):
            some = left[start : start + step]
            consecutive = int(some[-1]) - int(some[0]) + 1 == len(some)  # a view then, and no copy
            self._check(shard, first + some, frames[some[0] : some[-1] + 1] if consecutive else frames[some], layout)

    def _frames(self, shard: int, record: int, end: int, rows: int) -> tuple[npt.NDArray[np.uint8], RecordLayout]:
        """The frames of records of `rows` rows each, a view of the file, and their layout."""
        layout = record_layout(self._all, rows=rows, rows_per_record=self._full)
        size, begin = layout.frame_bytes, record * (self.chunks.record_bytes or 0)
        content = self._bytes(shard, begin, begin + (end - record) * size)
        if len(content) != (end - record) * size:
            raise self.store.error(shard, record, f"expected {size} bytes a record; found the end of the file")
        return content.reshape(end - record, size), layout

    def _bytes(self, shard: int, begin: int, end: int) -> npt.NDArray[np.uint8]:
        """Some bytes of a shard, fewer where it ends."""
        content = self.store.read(shard, begin, end)
        shard_identity.check_identity(self.store, shard, self._full, self.chunks.record_bytes)
        return content

    def _check_pieces(self, pieces: Sequence[FrameSlice]) -> None:
        """Checks the frames that this process has not checked yet."""
        left: dict[int, list[tuple[FrameSlice, I64, npt.NDArray[np.uint8]]]] = {}
        for piece in pieces:
            good, numbers, frames = self._good(piece.shard), piece.numbers(), piece.frames
            if good is not None and good[numbers].any():
                wanted = ~good[numbers]
                numbers, frames = numbers[wanted], frames[wanted]
            if len(numbers):
                left.setdefault(piece.layout.rows, []).append((piece, numbers, frames))
        for found in left.values():
            (piece, numbers, frames), *others = found
            if others:  # each alone would take longer; where one is damaged, the runs are read again one by one
                frames = np.concatenate([frames for _, _, frames in found])
            self._check(piece.shard, numbers, frames, piece.layout)
            for piece, numbers, _ in others:
                self._note(piece.shard, numbers)

    def _check(self, shard: int, numbers: I64, frames: npt.NDArray[np.uint8], layout: RecordLayout) -> None:
        """Checks the frames of records, of these numbers in the shard."""
        try:
            decode.check_frames(frames, layout)
        except RecordError as error:
            number = int(numbers[min(error.record, len(numbers) - 1)])
            raise self.store.error(shard, number, str(error)) from error
        self._note(shard, numbers)

    def _note(self, shard: int, numbers: I64) -> None:
        good = self._good(shard)
        if good is not None:
            good[numbers] = True

    def _good(self, shard: int) -> npt.NDArray[np.bool_] | None:
        """Which records of a shard this process has checked; None where its bytes come anew each time."""
        file = self.store.file(shard)
        if file is None:
            return None
        key = (*file, self._layouts)
        if key not in _CHECKED:
            _CHECKED[key] = np.zeros(-(-int(self.chunks.rows[shard]) // self._full), np.bool_)
        return _CHECKED[key]

    def _parsed(self, shard: int, start: int, stop: int) -> list[tuple[int, Columns]]:
        """The numbers and the columns of consecutive records whose rows differ in size."""
        chunks, result = self.chunks, []
        chunk, last = start // chunks.records, int(chunks.starts[shard]) + (stop - 1) // chunks.records
        begin = int(chunks.begins[chunks.starts[shard] + chunk])
        content = self._bytes(shard, begin, int(chunks.ends[last]))
        at, record = 0, chunk * chunks.records
        try:
            for record in range(record, stop):  # noqa: B020 - the message names the record that failed
                data, at = decode.frame_at(content, at, check=record >= start)
                if record >= start:
                    rows = min(self._full, int(chunks.rows[shard]) - record * self._full)
                    columns = decode.parse(data, self._all, names=self._names, rows=rows, rows_per_record=self._full)
                    result.append((record, columns))
        except RecordError as error:
            raise self.store.error(shard, record, str(error)) from error
        return result
