"""Reads the rows of a split's shards, from memory-mapped files where they are local and not small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loaders.format import records
from loaders.format.frames import RecordLayout, record_layout
from loaders.format.manifest import Manifest
from loaders.format.records import Columns, RecordError
from loaders.format.spec import FeatureSpec
from loaders.order.chunks import CHUNK_BYTES, Chunks
from loaders.order.epoch import Runs
from loaders.storage.store import ShardError, Store

if TYPE_CHECKING:
    from loaders.storage.cache import Cache

__all__ = ["ShardError", "Shards", "empty_column"]

# Up to so many bytes of several runs are copied together first: to check and to decode each by itself takes longer.
TOGETHER_BYTES = 1 << 19


class Shards:
    """The rows of a split, read from files, which are mapped when they are first read, or copied to a cache.

    It can be pickled; the copy maps the files anew.

    Args:
        root: Where the data set is.
        manifest: What it holds.
        split: The name of a split.
        names: The features to read.
        cache: Where copies of the shards are kept, or None.
        data_set: The name of the data set in the cache.

    Attributes:
        chunks: The chunks of the split.
        features: The features that are read, sorted by name.
        store: The bytes of the shards.
    """

    def __init__(
        self,
        root: str,
        manifest: Manifest,
        split: str,
        *,
        names: Sequence[str],
        cache: Cache | None = None,
        data_set: str = "",
    ) -> None:
        self.chunks = Chunks.of(manifest, split)
        self.features = tuple(feature for feature in manifest.features if feature.name in names)
        self._all = manifest.features
        self.store = Store(root, manifest.shards(split), cache=cache, data_set=data_set)
        self._full = manifest.rows_per_record
        self._names = frozenset(names)
        self._good: dict[int, npt.NDArray[np.bool_]] = {}
        self._last: tuple[int, int, Columns] = (-1, -1, {})

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": (-1, -1, {})}

    def empty(self, rows: int) -> Columns:
        """Columns to read rows into, without values; strings are empty."""
        return {spec.name: empty_column(spec, rows) for spec in self.features}

    def read_runs(self, runs: Runs, target: Columns, at: npt.NDArray[np.int64]) -> None:
        """Reads runs of consecutive rows.

        Args:
            runs: The runs.
            target: Columns to read into.
            at: The row of `target` where each begins, int64 of shape [runs].

        Raises:
            ShardError: If a shard is missing, or a record is damaged: the first one of the runs. Rows of the runs after
                it may be read or not.
        """
        # Records that differ in size are parsed one by one.
        row_bytes = TOGETHER_BYTES if self.chunks.record_bytes is None else self.chunks.record_bytes / self._full
        group = np.cumsum(runs.stop - runs.start) * row_bytes // TOGETHER_BYTES
        for numbers in np.split(np.arange(len(runs)), np.flatnonzero(group[1:] != group[:-1]) + 1):
            some, places = runs[numbers], at[numbers]
            if len(some) == 1 or not self._read_together(some, target, places):
                for run, place in zip(some, places.tolist(), strict=True):
                    self.read(run.shard, run.start, run.stop, target, place)

    def _read_together(self, runs: Runs, target: Columns, at: npt.NDArray[np.int64]) -> bool:
        """Reads runs of records of one size, if all can be read; whether they were."""
        rows = self.chunks.rows[runs.shard]
        tail = rows // self._full * self._full
        # The rows of the shorter record at the end of the shard, of which a run may have some.
        last = np.where(runs.stop > tail, rows - tail, 0)
        low, high = np.maximum(runs.start, tail), np.minimum(runs.stop, tail)
        try:
            frames = self._copied(runs, np.maximum(0, -(-high // self._full) - runs.start // self._full), last)
            for count, held in frames.items():
                if count == self._full:
                    some, start, stop = runs.start < high, runs.start, high
                else:
                    some, start, stop = last == count, low, runs.stop
                self._decode(held, count, start[some], stop[some], target, (at + start - runs.start)[some])
        except (ShardError, RecordError):
            return False
        return True

    def _copied(
        self, runs: Runs, whole: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
    ) -> dict[int, npt.NDArray[np.uint8]]:
        """Copies the frames of runs.

        Args:
            runs: The runs.
            whole: How many full records of each are read, int64 of shape [runs].
            last: How many rows the shorter one has that is read too, int64 of shape [runs]; 0 for none.

        Returns:
            The frames of all records of as many rows, by this number: uint8 of shape [records, bytes].

        Raises:
            RecordError: If a file ends before.
            ShardError: If a shard is missing.
        """
        numbers = {int(count): int((last == count).sum()) for count in np.unique(last[last > 0])}
        numbers |= {self._full: int(whole.sum())} if whole.any() else {}
        frames = {
            count: np.empty((number, self._layout(count).frame_bytes), np.uint8) for count, number in numbers.items()
        }
        size, copied = self.chunks.record_bytes or 0, dict.fromkeys(frames, 0)
        firsts = runs.start // self._full * size
        for shard, begin, full, rest in zip(
            *(values.tolist() for values in (runs.shard, firsts, whole, last)), strict=True
        ):
            end = full * size + (frames[rest].shape[1] if rest else 0)
            content = self._bytes(shard, begin, begin + end)
            if len(content) != end:
                raise RecordError("whole records", "the end of the file")
            for count, number, found in ((self._full, full, content[: full * size]), (rest, 1, content[full * size :])):
                if len(found):
                    frames[count][copied[count] : copied[count] + number] = found.reshape(number, -1)
                    copied[count] += number
        return frames

    def _decode(
        self,
        frames: npt.NDArray[np.uint8],
        rows: int,
        start: npt.NDArray[np.int64],
        stop: npt.NDArray[np.int64],
        target: Columns,
        at: npt.NDArray[np.int64],
    ) -> None:
        """Checks and decodes the frames of several runs of records of `rows` rows each.

        Args:
            frames: The frames, those of one run after the other, uint8 of shape [records, bytes].
            rows: How many rows a record has.
            start: The first row of its shard that each run has, int64 of shape [runs].
            stop: The row after the last one, int64 of shape [runs].
            target: Columns to put the rows into.
            at: The row of `target` where each run begins, int64 of shape [runs].

        Raises:
            RecordError: If a frame is damaged.
        """
        layout = self._layout(rows)
        self._check_frames(frames, layout)
        first = start // self._full
        ends, held = np.cumsum(-(-stop // self._full) - first), stop - start
        begins = np.concatenate([[0], ends[:-1]]) * rows + start - first * self._full
        before = np.cumsum(held) - held
        places = np.arange(int(held.sum()))
        source = places + np.repeat(begins - before, held)
        places += np.repeat(at - before, held)
        for spec in self.features:
            values = np.empty((len(frames) * rows, *spec.inner_shape), dtype=spec.numpy_dtype)
            records.copy_values(frames, layout, spec, values)
            target[spec.name][places] = values if len(source) == len(values) else values[source]

    def _layout(self, rows: int) -> RecordLayout:
        """The layout of a record of so many rows."""
        return record_layout(self._all, rows=rows, rows_per_record=self._full)

    def read(self, shard: int, start: int, stop: int, target: Columns, at: int) -> None:
        """Reads consecutive rows.

        Args:
            shard: The number of a shard.
            start: Its first row to read.
            stop: The row after the last one.
            target: Columns to read into.
            at: The row of `target` where they begin.

        Raises:
            ShardError: If the shard is missing, or a record is damaged.
        """
        try:
            self._read(shard, start, stop, target, at)
        except ShardError:
            # A copy that is damaged is made anew.
            if not self.store.discard(shard):
                raise
            self._read(shard, start, stop, target, at)

    def _read(self, shard: int, start: int, stop: int, target: Columns, at: int) -> None:
        full = self._full
        if self.chunks.record_bytes is None:
            for record, rows in self._parsed(shard, start // full, -(-stop // full)):
                first = record * full
                low, high = max(start, first), min(stop, first + full)
                for name, values in rows.items():
                    target[name][at + low - start : at + high - start] = values[low - first : high - first]
            return
        tail = int(self.chunks.rows[shard]) // full * full
        if start < min(stop, tail):
            self._read_fixed(shard, start, min(stop, tail), full, target, at)
        if stop > tail:
            low = max(start, tail)
            self._read_fixed(shard, low, stop, int(self.chunks.rows[shard]) - tail, target, at + low - start)

    def take(self, shard: int, rows: npt.NDArray[np.int64], target: Columns, places: npt.NDArray[np.int64]) -> None:
        """Reads any rows; the checksum of a record is compared when it is first taken from.

        Args:
            shard: The number of a shard.
            rows: Its rows to read, int64 of shape [n].
            target: Columns to read into.
            places: The rows of `target` where they go, int64 of shape [n].

        Raises:
            ShardError: If the shard is missing, or a record is damaged.
        """
        try:
            self._take(shard, rows, target, places)
        except ShardError:
            if not self.store.discard(shard):
                raise
            self._good.pop(shard, None)
            self._take(shard, rows, target, places)

    def _take(self, shard: int, rows: npt.NDArray[np.int64], target: Columns, places: npt.NDArray[np.int64]) -> None:
        record, row = np.divmod(rows, self._full)
        if self.chunks.record_bytes is None:
            for number in np.unique(record).tolist():
                held = record == number
                columns = self._record(shard, number)
                for name, values in columns.items():
                    target[name][places[held]] = values[row[held]]
            return
        tail, rest = divmod(int(self.chunks.rows[shard]), self._full)
        for count, held in ((self._full, record < tail), (rest, record == tail)):
            if not held.any():
                continue
            numbers = np.unique(record[held])
            # All from one view of the file, or a request for each record.
            runs = [(int(numbers[0]), int(numbers[-1]) + 1)]
            if not self.store.is_local(shard):
                runs = [(number, number + 1) for number in numbers.tolist()]
            for first, end in runs:
                inside = held & (record >= first) & (record < end)
                frames, layout = self._frames(shard, first, end, count)
                self._check_once(shard, first, frames, layout, numbers[(numbers >= first) & (numbers < end)] - first)
                for spec in self.features:
                    found = records.gather_values(frames, layout, spec, record[inside] - first, row[inside])
                    target[spec.name][places[inside]] = found

    def _record(self, shard: int, number: int) -> Columns:
        """The columns of a record whose rows differ in size; the last one is kept, as the next row is often its."""
        last = self._last
        if last[:2] != (shard, number):
            ((_, columns),) = self._parsed(shard, number, number + 1)
            self._last = last = (shard, number, columns)
        return last[2]

    def _check_once(
        self,
        shard: int,
        first: int,
        frames: npt.NDArray[np.uint8],
        layout: RecordLayout,
        numbers: npt.NDArray[np.int64],
    ) -> None:
        """Checks those of the frames that have not been checked yet."""
        if shard not in self._good:
            self._good[shard] = np.zeros(-(-int(self.chunks.rows[shard]) // self._full), dtype=np.bool_)
        good = self._good[shard]
        left = numbers[~good[numbers + first]]
        # Many small records at once, and no more memory than a chunk.
        step = max(1, CHUNK_BYTES // layout.frame_bytes)
        for start in range(0, len(left), step):
            some = left[start : start + step]
            self._check(shard, first + some, frames[some], layout)
            good[first + some] = True

    def _read_fixed(self, shard: int, start: int, stop: int, rows: int, target: Columns, at: int) -> None:
        """Reads rows of records of `rows` rows each: full ones, or the shorter one at the end of a shard."""
        record, end = start // self._full, -(-stop // self._full)
        frames, layout = self._frames(shard, record, end, rows)
        self._check(shard, np.arange(record, end), frames, layout)
        first, held = record * self._full, (end - record) * rows
        for spec in self.features:
            place = target[spec.name][at : at + stop - start]
            if held == stop - start:
                records.copy_values(frames, layout, spec, place)
            else:
                values = np.empty((held, *spec.inner_shape), dtype=spec.numpy_dtype)
                records.copy_values(frames, layout, spec, values)
                place[...] = values[start - first : stop - first]

    def _frames(self, shard: int, record: int, end: int, rows: int) -> tuple[npt.NDArray[np.uint8], RecordLayout]:
        """The frames of records of `rows` rows each, a view of the file, and their layout."""
        layout = self._layout(rows)
        size, begin = layout.frame_bytes, record * (self.chunks.record_bytes or 0)
        content = self._bytes(shard, begin, begin + (end - record) * size)
        if len(content) != (end - record) * size:
            raise self.store.error(shard, record, f"expected {size} bytes a record; found the end of the file")
        return content.reshape(end - record, size), layout

    def _bytes(self, shard: int, begin: int, end: int) -> npt.NDArray[np.uint8]:
        """Some bytes of a shard, fewer where it ends."""
        return self.store.read(shard, begin, end)

    def _check(
        self, shard: int, numbers: npt.NDArray[np.int64], frames: npt.NDArray[np.uint8], layout: RecordLayout
    ) -> None:
        """Checks the frames of records, whose numbers in the shard are for messages."""
        try:
            self._check_frames(frames, layout)
        except RecordError as error:
            raise self.store.error(shard, int(numbers[error.record]), str(error)) from error

    def _check_frames(self, frames: npt.NDArray[np.uint8], layout: RecordLayout) -> None:
        """Checks frames of any shards."""
        records.check_frames(frames, layout)

    def _parsed(self, shard: int, start: int, stop: int) -> list[tuple[int, Columns]]:
        """The numbers and the columns of consecutive records whose rows differ in size."""
        chunks, result = self.chunks, []
        chunk, last = start // chunks.records, int(chunks.starts[shard]) + (stop - 1) // chunks.records
        begin = int(chunks.begins[chunks.starts[shard] + chunk])
        content = self._bytes(shard, begin, int(chunks.ends[last]))
        at, record = 0, chunk * chunks.records
        try:
            for record in range(record, stop):  # noqa: B020 - the message names the record that failed
                data, at = records.frame_at(content, at, check=record >= start)
                if record >= start:
                    rows = min(self._full, int(chunks.rows[shard]) - record * self._full)
                    columns = records.parse(data, self._all, names=self._names, rows=rows, rows_per_record=self._full)
                    result.append((record, columns))
        except RecordError as error:
            raise self.store.error(shard, record, str(error)) from error
        return result


def empty_column(spec: FeatureSpec, rows: int) -> npt.NDArray[Any]:
    """A column of rows without values: what is in it is not said, but that strings are empty."""
    if spec.variable:
        return np.full((rows, *(() if spec.ragged else spec.inner_shape)), b"", dtype=object)
    return np.empty((rows, *spec.inner_shape), dtype=spec.numpy_dtype)
