"""Which rows a batch has: the order of an epoch, its streams, and the hosts that share them. Pure NumPy.

`docs/format.md` states the order in words. Rows are found by arithmetic, so that to begin anywhere costs the same.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from loaders.order import hashing
from loaders.order.split_slices import ViewChunks

I64 = npt.NDArray[np.int64]
Remainder = Literal["keep", "drop", "pad"]
REMAINDERS: tuple[Remainder, ...] = ("keep", "drop", "pad")
Shuffle = bool | Literal["global"]


def as_integer(name: str, value: Any, *others: str) -> int:
    """A number of any integer type as Python's; a bool is none.

    Raises:
        TypeError: If it is not an integer.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{' '.join([name, 'is an integer', *others])}; found {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Which share of every batch this host reads.

    Attributes:
        index: The number of this host, from 0.
        count: How many hosts there are.

    Raises:
        TypeError: If one is no integer.
        ValueError: If there is no such host.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        for name in ("index", "count"):
            object.__setattr__(self, name, as_integer(f"shard: {name}", getattr(self, name)))
        if not 0 <= self.index < self.count:
            raise ValueError(f"shard is a host of index 0 to count - 1; found index {self.index}, count {self.count}")

    @classmethod
    def from_jax(cls) -> ShardOptions:
        """This process of those of JAX: `jax.process_index()` of `jax.process_count()`."""
        import jax

        return cls(index=jax.process_index(), count=jax.process_count())

    @classmethod
    def from_torch(cls) -> ShardOptions:
        """This process of the default group of `torch.distributed`; the only one where there is none."""
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(index=distributed.get_rank(), count=distributed.get_world_size())

    @classmethod
    def from_tensorflow(cls, context: Any) -> ShardOptions:
        """The input pipeline that `strategy.distribute_datasets_from_function` asks a function for.

        Args:
            context: The `tf.distribute.InputContext` that the function is called with.
        """
        return cls(index=context.input_pipeline_id, count=context.num_input_pipelines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
    """What has been consumed: the epochs before this one, and so many rows of each stream in it."""

    epoch: int = 0
    rows: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchShare:
    """How the rows of an epoch are dealt to streams, batches and hosts.

    Attributes:
        rows: The rows of an epoch.
        batch_size: The rows of a batch of all hosts together.
        streams: How many streams there are.
        shard: The host that is meant.
        remainder: What becomes of the rows at the end that do not fill a batch.

    Raises:
        ValueError: If the streams do not divide among the hosts, or a batch not among the streams.
    """

    rows: int
    batch_size: int
    streams: int
    shard: ShardOptions
    remainder: Remainder

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is at least 1; found {self.batch_size}")
        if self.streams < 1 or self.streams % self.shard.count:
            raise ValueError(f"streams is a multiple of the {self.shard.count} hosts; found {self.streams}")
        if self.batch_size % self.streams:
            raise ValueError(f"batch_size is a multiple of the {self.streams} streams; found {self.batch_size}")
        if self.remainder not in REMAINDERS:
            raise ValueError(f"remainder is one of {', '.join(REMAINDERS)}; found {self.remainder!r}")

    @property
    def stream_batch(self) -> int:
        """The rows of each stream in a batch."""
        return self.batch_size // self.streams

    @property
    def own(self) -> range:
        """The numbers of the streams that this host reads.

        They are consecutive: a batch has stream after stream, so that the batches of the hosts, one after the other,
        are the batch of one host, row for row.
        """
        of_host = self.streams // self.shard.count
        return range(self.shard.index * of_host, (self.shard.index + 1) * of_host)

    def bounds(self, stream: int) -> tuple[int, int]:
        """The first row of a stream in the epoch's sequence, and the row after its last."""
        return stream * self.rows // self.streams, (stream + 1) * self.rows // self.streams

    def batches(self, consumed: int = 0) -> int:
        """How many batches this host has left in an epoch of which so many rows of each stream are consumed."""
        # Streams differ in at most one row.
        if self.remainder == "drop":
            return max(0, (self.rows // self.streams - consumed) // self.stream_batch)
        longest = self._longest if self.remainder == "keep" else -(-self.rows // self.streams)
        return max(0, -(-(longest - consumed) // self.stream_batch))

    @functools.cached_property
    def _longest(self) -> int:
        """The rows of the longest of the host's streams."""
        return max(stop - start for start, stop in map(self.bounds, self.own))

    def mask(self, consumed: int) -> npt.NDArray[np.bool_] | None:
        """Which rows of the padded batch are there after so many rows of each stream; None where none is padded."""
        if self.remainder != "pad":
            return None
        lengths = np.array([end - first for first, end in map(self.bounds, self.own)])
        found: npt.NDArray[np.bool_] = np.arange(self.stream_batch) < (lengths - consumed)[:, np.newaxis]
        return found.reshape(-1)

    def advance(self, position: Position, batches: int, *, end: int | None) -> Position | None:
        """The position before a batch, by its number from 0 after a position; None if `end`, an epoch, comes before."""
        epoch, left = position.epoch, self.batches(position.rows)
        if batches < left and (end is None or epoch < end):
            return Position(epoch=epoch, rows=position.rows + batches * self.stream_batch)
        per_epoch = self.batches()
        if not per_epoch:
            return None
        epochs, number = divmod(batches - left, per_epoch)
        epoch += 1 + epochs
        return Position(epoch=epoch, rows=number * self.stream_batch) if end is None or epoch < end else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Consecutive rows of one shard: those from `start` up to `stop` of shard number `shard`."""

    shard: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of rows, one after the other; none is empty.

    Attributes:
        shard, start, stop: As in `Run`, int64 of shape [runs].
    """

    shard: I64
    start: I64
    stop: I64

    def __len__(self) -> int:
        return len(self.shard)

    def __iter__(self) -> Iterator[Run]:
        for shard, start, stop in zip(self.shard.tolist(), self.start.tolist(), self.stop.tolist(), strict=True):
            yield Run(shard=shard, start=start, stop=stop)

    def __getitem__(self, which: npt.NDArray[Any]) -> Runs:
        """Those of some numbers, or where a mask is True."""
        return Runs(shard=self.shard[which], start=self.start[which], stop=self.stop[which])


class RowSequence:
    """The rows of an epoch in the order of its chunks, before windows are put in order.

    Args:
        view: The chunks of which the epoch is.
        key: The key of their permutation; None for the chunks as they are stored.
    """

    def __init__(self, view: ViewChunks, key: int | None) -> None:
        self._view, self._key, self._full = view, key, view.chunks.records * view.chunks.rows_per_record
        # All chunks have as many rows but few, so places follow from where those are.
        missing, short = self._full - self._view.rows, self._view.short
        positions = short if key is None or not len(short) else hashing.unpermute(key, short, self._view.size)
        ranks = np.argsort(positions)
        self._missing = np.concatenate([[0], np.cumsum(missing[ranks])]).astype(np.int64)
        # The row of the sequence at which the chunk after each short one begins.
        self._after = (positions[ranks] + 1) * self._full - self._missing[1:]

    def runs(self, start: int, stop: int) -> Runs:
        """The rows from `start` up to `stop` of the sequence, in order."""
        if start >= stop:
            return Runs(shard=np.arange(0), start=np.arange(0), stop=np.arange(0))
        first, last = (int(self._position(row)) for row in (start, stop - 1))
        places = np.arange(first, last + 1)
        if self._key is not None:
            places = hashing.permute(self._key, places, self._view.size)
        shard, low, high = self._view.runs(places)
        # Of the first and the last chunk not all rows are meant.
        before = np.cumsum(high - low) - (high - low) - (start - self._begin(first))
        low = low + np.clip(-before, 0, high - low)
        high = np.minimum(high, low + (stop - start) - np.maximum(before, 0))
        return Runs(shard=shard, start=low, stop=high)[low < high]

    def _position(self, row: int) -> int:
        """The position of the chunk that holds a row of the sequence."""
        shorts = int(np.searchsorted(self._after, row, side="right"))
        return (row + int(self._missing[shorts])) // self._full

    def _begin(self, position: int) -> int:
        """The row of the sequence at which the chunk at a position begins."""
        shorts = int(np.searchsorted(self._after + self._missing[1:], position * self._full, side="right"))
        return position * self._full - int(self._missing[shorts])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffleWindow:
    """Rows `start` up to `stop` of the epoch's sequence, which are read together and put in order.

    `places` says which row of the window comes at each place of the order: int64 of shape [stop - start].
    """

    start: int
    stop: int
    places: I64


def window(deal: BatchShare, stream: int, number: int, *, rows: int, seed: int | None, epoch: int) -> ShuffleWindow:
    """Window `number` of a stream in an epoch, where one of a single stream has so many rows.

    The rows are as they are stored where `seed` is None.
    """
    size = max(1, rows // deal.streams)
    first, end = deal.bounds(stream)
    start = min(end, first + number * size)
    stop = min(end, start + size)
    if seed is None:
        return ShuffleWindow(start=start, stop=stop, places=np.arange(stop - start))
    key = hashing.derive(seed, hashing.WINDOW_ROWS, epoch, number * deal.streams + stream)
    return ShuffleWindow(start=start, stop=stop, places=hashing.shuffled(key, stop - start))


def permuted_rows(deal: BatchShare, stream: int, start: int, stop: int, *, seed: int, epoch: int) -> I64:
    """The rows at places of a stream where every epoch is a permutation of all rows; the stream may end before `stop`.

    Returns:
        The numbers of the rows in the view: int64 of shape [rows].
    """
    first, end = deal.bounds(stream)
    places = np.arange(first + start, min(end, first + stop))
    return hashing.permute(hashing.derive(seed, hashing.ALL_ROWS, epoch), places, deal.rows)
