"""What a `tf.data` pipeline asks Python for: copies of shards, and records that TensorFlow does not read."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loaders.format import records
from loaders.format.encode import empty_record
from loaders.format.records import RecordError
from loaders.order.chunks import Chunks
from loaders.order.splits import View
from loaders.storage.damage import SkippedRecords
from loaders.storage.remote import is_remote
from loaders.storage.store import ShardError, Store

if TYPE_CHECKING:
    from loaders.storage.cache import Cache

PARALLEL_COPIES = 4
"""How many shards are copied to a cache at once."""

PARALLEL_RANGES = 16
"""How many chunks of remote shards are read at once: each waits tens of milliseconds for its first byte."""

I64 = npt.NDArray[np.int64]


class _Place(NamedTuple):
    """Where the records of a chunk are: shard, first byte, bytes, number of the first record, number of records."""

    shard: int
    begin: int
    size: int
    first: int
    records: int


class Salvage:
    """Reads records of a view's shards in Python.

    Args:
        root: Where the data set is.
        view: The rows.
        cache: Where copies of the shards are kept, or None.
        data_set: The name of the data set in the cache.
        skipped: Where records are noted that cannot be read; None if they are an error.

    Attributes:
        cached: Whether there is a cache.
        remote: Whether the shards are where TensorFlow does not read them.
        skips: Whether records that cannot be read are left out.
        error: The last error, which TensorFlow passes on as a text.
    """

    def __init__(
        self,
        root: str,
        view: View,
        *,
        cache: Cache | None = None,
        data_set: str = "",
        skipped: SkippedRecords | None = None,
    ) -> None:
        self._store = Store(root, view.manifest.shards(view.split), cache=cache, data_set=data_set)
        self._chunks, self._features = Chunks.of(view.manifest, view.split), view.manifest.features
        self._skipped = skipped
        self.cached, self.skips = cache is not None, skipped is not None
        self.remote = is_remote(root) and cache is None
        self.error: ShardError | None = None

    def paths(self, shards: I64) -> npt.NDArray[Any]:
        """Where TensorFlow reads shards: bytes of shape [n], as objects."""
        wanted = np.unique(shards).tolist()
        with concurrent.futures.ThreadPoolExecutor(PARALLEL_COPIES) as copiers:
            found = dict(zip(wanted, copiers.map(self._path, wanted), strict=True))
        return np.array([found[shard].encode() for shard in shards.tolist()], dtype=object)

    def _path(self, shard: int) -> str:
        try:
            return self._store.local_path(shard)
        except ShardError:
            return self._store.path(shard)  # to be told, or skipped, when it is read

    def __call__(self, shards: I64, begins: I64, sizes: I64, firsts: I64, counts: I64) -> Any:
        """Reads chunks.

        Args:
            shards: The shard of each chunk, int64 of shape [chunks].
            begins: The byte of it at which its first record begins.
            sizes: How many bytes to read.
            firsts: The number of the first record.
            counts: How many records.

        Returns:
            The records, bytes of shape [records] as objects; and, where some may be left out, which are, bool of the
            same shape. These hold zeros and empty strings.

        Raises:
            ShardError: If a record cannot be read, and none may be left out.
        """
        found: list[bytes] = []
        lost: list[bool] = []
        places = [
            _Place(*values)
            for values in zip(*(each.tolist() for each in (shards, begins, sizes, firsts, counts)), strict=True)
        ]
        with concurrent.futures.ThreadPoolExecutor(PARALLEL_RANGES if self.remote else 1) as readers:
            for place, read in zip(places, readers.map(self._strict_or_error, places), strict=True):
                records_of, lost_of = self._lenient(place, read) if isinstance(read, ShardError) else (read, None)
                found += records_of
                lost += lost_of or [False] * place.records
        result = np.array(found, dtype=object)
        return (result, np.array(lost, dtype=np.bool_)) if self.skips else result

    def _strict_or_error(self, place: _Place) -> list[bytes] | ShardError:
        try:
            return self._strict(place)
        except ShardError as error:
            return error

    def _strict(self, place: _Place) -> list[bytes]:
        try:
            return self._read(place)
        except ShardError:
            # A copy that is damaged is made anew.
            if not self._store.discard(place.shard):
                raise
            return self._read(place)

    def _read(self, place: _Place) -> list[bytes]:
        content = self._store.read(place.shard, place.begin, place.begin + place.size)
        at, result = 0, []
        for record in range(place.first, place.first + place.records):
            try:
                data, at = records.frame_at(content, at, check=True)
            except RecordError as error:
                raise self._store.error(place.shard, record, str(error)) from error
            result.append(data)
        return result

    def _lenient(self, place: _Place, error: ShardError) -> tuple[list[bytes], list[bool]]:
        """Reads a chunk record by record, and notes those that cannot be read; an error where none may be left out."""
        skipped = self._skipped
        if skipped is None:
            self.error = error
            raise error
        found, lost = [], []
        fixed = self._chunks.record_bytes
        at: int | None = place.begin
        for record in range(place.first, place.first + place.records):
            begin = place.begin + (record - place.first) * fixed if fixed else at
            data, at, told = self._record(place.shard, record, begin, place.begin + place.size, error)
            lost.append(data is None)
            if data is None:
                rows = self._rows(place.shard, record)
                data = empty_record(self._features, rows=rows, rows_per_record=self._chunks.rows_per_record)
                skipped.note(told, record=record, rows=rows)
            found.append(data)
        return found, lost

    def _record(
        self, shard: int, record: int, at: int | None, end: int, error: ShardError
    ) -> tuple[bytes | None, int | None, ShardError]:
        """The data of a record, where the next one begins, and what is wrong with it."""
        if error.record is None or at is None:  # the shard as a whole, or a header before it
            return None, None, error
        content = self._store.read(shard, at, end)
        try:
            data, size = records.frame_at(content, 0, check=True)
        except RecordError as wrong:
            told = self._store.error(shard, record, str(wrong))
            try:
                _, size = records.frame_at(content, 0, check=False)
            except RecordError:
                return None, None, told
            return None, at + size, told
        return data, at + size, error

    def _rows(self, shard: int, record: int) -> int:
        full = self._chunks.rows_per_record
        return min(full, int(self._chunks.rows[shard]) - record * full)
