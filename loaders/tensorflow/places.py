"""Where the rows of an epoch lie, as TensorFlow operations: `loaders.order.epoch.RowSequence` in the graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from loaders.order.chunks import Chunks
from loaders.order.splits import ViewChunks
from loaders.tensorflow import graph_hashing


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphRowSequence:
    """The chunks of an epoch in their order.

    Attributes:
        keys: The keys and the pivots of `graph.rounds`; None for the chunks as they are stored.
        missing: How many rows the first 0, 1, … short chunks lack together; int64 of shape [short chunks + 1].
        after: The row of the sequence at which the chunk after each short one begins; int64 of shape
            [1, short chunks].
    """

    keys: tuple[tf.Tensor, tf.Tensor] | None
    missing: tf.Tensor
    after: tf.Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reads:
    """What is read of each of some chunks; int64 of shape [chunks] each.

    Attributes:
        shard: The number of its shard.
        begin: The byte of its shard at which the first record begins.
        size: No fewer bytes than the records have.
        records: How many records.
        rows: How many rows these hold.
        first: The number in its shard of the first record.
    """

    shard: tf.Tensor
    begin: tf.Tensor
    size: tf.Tensor
    records: tf.Tensor
    rows: tf.Tensor
    first: tf.Tensor


class Places:
    """Where the chunks of a split are.

    All chunks have as many rows but the last one of each shard, so where one begins follows from where those are.

    Args:
        chunks: The chunks.
        sizes: The bytes of each shard.
        view: The chunks of the part of the split that is meant; None for the whole split.
    """

    def __init__(self, chunks: Chunks, sizes: Sequence[int], *, view: ViewChunks | None = None) -> None:
        self._chunks = chunks
        self._full = chunks.records * chunks.rows_per_record
        self._size = tf.constant(chunks.size if view is None else view.size, tf.int64)
        self._starts = tf.constant(chunks.starts[np.newaxis, 1:])
        # For each shard: the number of its first chunk, its rows, its bytes.
        self._shards = tf.constant(np.stack([chunks.starts[:-1], chunks.rows, np.array(sizes, np.int64)], axis=1))
        if chunks.record_bytes is None:
            self._extents = tf.constant(np.stack([chunks.begins, chunks.ends - chunks.begins], axis=1))
        counts = np.diff(chunks.starts)
        if view is None:
            missing = counts * self._full - chunks.rows
            shards = np.flatnonzero(missing)
            short, missing = chunks.starts[1:][shards] - 1, missing[shards]
        else:
            short, missing = view.short, self._full - view.rows
            self._runs = tf.constant(view.starts[np.newaxis, 1:]), tf.constant(view.numbers - view.starts[:-1])
        self._view = view
        self._short, self._missing = tf.constant(short), tf.constant(missing)
        held = counts[counts > 0]
        # Where no shard has two chunks, each chunk ends its file, and one operation reads many.
        rows = int(chunks.rows.sum())
        whole_files = view is None and held.size and held.max() == 1
        self.together = max(1, self._full * len(held) // max(1, rows)) if whole_files else 1
        lacking = np.cumsum(missing)
        self.stored = GraphRowSequence(
            keys=None,
            missing=tf.constant(np.concatenate([[0], lacking])),
            after=tf.constant(((short + 1) * self._full - lacking)[np.newaxis]),
        )

    def shuffled(self, key: tf.Tensor) -> GraphRowSequence:
        """The sequence of the chunks under the permutation of a key."""
        if not (self._chunks if self._view is None else self._view).size:
            return self.stored
        keys, pivots = graph_hashing.round_keys(key, self._size)
        if not self._short.shape[0]:
            return GraphRowSequence(keys=(keys, pivots), missing=self.stored.missing, after=self.stored.after)
        zero = tf.constant(0)
        first = tf.constant([0])
        last_keys, last_pivots = (tf.raw_ops.ReverseV2(tensor=each, axis=first) for each in (keys, pivots))
        positions = graph_hashing.rounds(last_keys, last_pivots, self._short, self._size)
        # In ascending order.
        found = tf.raw_ops.TopKV2(input=tf.raw_ops.Neg(x=positions), k=tf.constant(self._short.shape[0]))
        sizes = tf.raw_ops.GatherV2(params=self._missing, indices=found.indices, axis=zero)
        missing = tf.raw_ops.Cumsum(x=sizes, axis=zero)
        after = tf.raw_ops.Sub(x=(1 - found.values) * self._full, y=missing)
        return GraphRowSequence(
            keys=(keys, pivots),
            missing=tf.raw_ops.PadV2(
                input=missing, paddings=tf.constant([[1, 0]]), constant_values=tf.constant(0, tf.int64)
            ),
            after=tf.raw_ops.ExpandDims(input=after, axis=zero),
        )

    def reads(self, sequence: GraphRowSequence, start: tf.Tensor, end: tf.Tensor) -> tuple[Reads, tf.Tensor]:
        """What is read for the rows from `start` up to `end` of a sequence.

        Args:
            sequence: The sequence.
            start: An int64 scalar.
            end: An int64 scalar, above `start`.

        Returns:
            The reads in order, and how many of their first rows are before `start`.
        """
        ops, chunks = tf.raw_ops, self._chunks
        zero, one, axis = tf.constant(0, tf.int64), tf.constant(1, tf.int64), tf.constant(0)
        full, chunk_rows = tf.constant(chunks.rows_per_record, tf.int64), tf.constant(self._full, tf.int64)
        # The positions of the first and the last chunk.
        edges = ops.Pack(values=[start, ops.Sub(x=end, y=one)])
        shorts = _above(sequence.after, edges, axis)
        lacking = ops.GatherV2(params=sequence.missing, indices=shorts, axis=axis)
        first, last = ops.Unpack(value=ops.FloorDiv(x=ops.AddV2(x=edges, y=lacking), y=chunk_rows), num=2)
        lacks, _ = ops.Unpack(value=lacking, num=2)
        skip = ops.AddV2(x=ops.Sub(x=start, y=ops.Mul(x=first, y=chunk_rows)), y=lacks)
        number = ops.Range(start=first, limit=ops.AddV2(x=last, y=one), delta=one)
        if sequence.keys is not None:
            number = graph_hashing.rounds(*sequence.keys, number, self._size)
        if self._view is not None:
            number = self._in_split(number, axis)
        # The chunks, and the row of the block at which each begins.
        shard = _above(self._starts, number, axis)
        first_of, rows_of, bytes_of = ops.Unpack(
            value=ops.GatherV2(params=self._shards, indices=shard, axis=axis), num=3, axis=1
        )
        local = ops.Sub(x=number, y=first_of)
        rows = ops.Minimum(x=ops.Sub(x=rows_of, y=ops.Mul(x=local, y=chunk_rows)), y=chunk_rows)
        wanted, before = rows, None
        if self._view is None:
            begin = ops.Sub(x=ops.Cumsum(x=rows, axis=axis, exclusive=True), y=skip)
            # Of files that are read together each is read to its end: else one that lost its end would be made up for
            # by more of the last.
            if self.together == 1:
                wanted = ops.Minimum(x=rows, y=ops.Sub(x=ops.Sub(x=end, y=start), y=begin))
            # It is known where a record of a fixed size begins: whole ones before the first row are not read.
            if chunks.record_bytes is not None:
                before = ops.FloorDiv(x=ops.Maximum(x=ops.Neg(x=begin), y=zero), y=full)
        # Of a view chunks are read whole, as the rows of one are chosen by their numbers.
        records = ops.FloorDiv(x=ops.AddV2(x=wanted, y=ops.Sub(x=full, y=one)), y=full)
        record = ops.Mul(x=local, y=tf.constant(chunks.records, tf.int64))
        if before is not None:
            records, rows = ops.Sub(x=records, y=before), ops.Sub(x=rows, y=ops.Mul(x=before, y=full))
            record, skip = ops.AddV2(x=record, y=before), ops.FloorMod(x=skip, y=full)
        if chunks.record_bytes is None:
            extents = ops.GatherV2(params=self._extents, indices=number, axis=axis)
            at, size = ops.Unpack(value=extents, num=2, axis=1)
        else:
            record_bytes = tf.constant(chunks.record_bytes, tf.int64)
            at = ops.Mul(x=record, y=record_bytes)
            size = ops.Minimum(x=ops.Mul(x=records, y=record_bytes), y=ops.Sub(x=bytes_of, y=at))
        rows = ops.Minimum(x=rows, y=ops.Mul(x=records, y=full))
        return Reads(shard=shard, begin=at, size=size, records=records, rows=rows, first=record), skip

    def _in_split(self, number: tf.Tensor, axis: tf.Tensor) -> tf.Tensor:
        """The numbers in the split of chunks of the view."""
        ends, shifts = self._runs
        run = _above(ends, number, axis)
        return tf.raw_ops.AddV2(x=number, y=tf.raw_ops.GatherV2(params=shifts, indices=run, axis=axis))


def _above(bounds: tf.Tensor, values: tf.Tensor, axis: tf.Tensor) -> tf.Tensor:
    """How many of the bounds, int64 of shape [1, n] in ascending order, are at most each value; int64."""
    found = tf.raw_ops.UpperBound(
        sorted_inputs=bounds, values=tf.raw_ops.ExpandDims(input=values, axis=axis), out_type=tf.int64
    )
    return tf.raw_ops.Squeeze(input=found, axis=[0])
