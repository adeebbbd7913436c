"""Reads the rows of a split, or of a part of one, as blocks, in `tf.data`'s C++ kernels.

TensorFlow's own errors name neither the shard nor the record. So a chunk that it cannot read is left out, and where
fewer records came than there are, `loaders.tensorflow.salvage` reads the block's chunks again, and tells what is wrong.
"""

from __future__ import annotations

import posixpath
from typing import Any

import numpy as np
import tensorflow as tf

from loaders.order import hashing
from loaders.order.chunks import Chunks, window_rows
from loaders.order.splits import View, ViewChunks
from loaders.tensorflow import decode, graph_hashing, memory
from loaders.tensorflow.batching import LOST, ROWS, Assembly
from loaders.tensorflow.places import GraphRowSequence, Places, Reads
from loaders.tensorflow.salvage import Salvage

# Chunks of 1 MiB that are read at once for a window, and windows of 32 MiB that are decoded and put in order at once.
# They bound the memory.
PARALLEL_CHUNKS = 4
PARALLEL_WINDOWS = 2
# How many chunks make a block of rows that stay as they are stored: to begin one takes 2 ms.
STORED_CHUNKS = 8

HOST = "/cpu:0"


class BlockReader:
    """Reads the rows of a view as blocks: elements of nested tensors of shape [rows, …].

    Args:
        root: Where the data set is.
        view: The rows.
        assembly: How they become elements.
        salvage: What is asked where TensorFlow cannot read; None for one that raises errors.
        in_memory: Whether all rows are read now, and kept. What is made of them then has their numbers alone, and
            `whole` the rows.
    """

    def __init__(
        self, *, root: str, view: View, assembly: Assembly, salvage: Salvage | None = None, in_memory: bool = False
    ) -> None:
        self.assembly = assembly
        self._chunks = Chunks.of(view.manifest, view.split)
        self._rows = view.rows
        self._window_rows = window_rows(view.manifest, view.split)
        self.salvage = salvage or Salvage(root, view)
        shards = view.manifest.shards(view.split)
        files = [posixpath.join(root, *shard.file.split("/")) for shard in shards]
        whole = view.ranges == (((0, self._chunks.rows.sum()),) if view.rows else ())
        part = None if whole else ViewChunks.of(self._chunks, view.ranges)
        # Tensors and no constants of a graph: each function would have a copy of its own.
        with tf.device(HOST):
            self._files = tf.constant(files, tf.string, shape=[len(files)])
            self._places = Places(self._chunks, [shard.bytes for shard in shards], view=part)
            self._firsts = tf.constant(np.cumsum(self._chunks.rows) - self._chunks.rows)
            ranges = np.array(view.ranges, dtype=np.int64).reshape(-1, 2)
            self._bounds = None if whole else tf.constant(ranges.reshape(-1))
            # How many rows of the split are left out before each range.
            self._left_out = tf.constant(ranges[:, 0] - np.cumsum(ranges[:, 1] - ranges[:, 0]) + np.diff(ranges)[:, 0])
        self._held: Any = None
        if in_memory:
            self._held = memory.read(self.stored(), self._rows)

    def whole(self, blocks: tf.data.Dataset) -> tf.data.Dataset:
        """Blocks, or batches that were cut from them, with the rows that they have the numbers of."""
        if self._held is None:
            return blocks
        held = self._held
        parallel: dict[str, Any] = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
        return blocks.map(lambda numbers: memory.take(held, numbers), **parallel)

    def stored(self) -> tf.data.Dataset:
        """The rows as they are stored, in blocks of some chunks."""
        rows = STORED_CHUNKS * self._chunks.records * self._chunks.rows_per_record
        starts = tf.data.Dataset.range(0, self._rows, rows)

        def read(start: tf.Tensor) -> Any:
            end = tf.minimum(start + rows, self._rows)
            return self._block(start, end, tf.range(end - start), self._places.stored)

        return starts.map(read, num_parallel_calls=PARALLEL_WINDOWS, deterministic=True)

    def shuffled(self, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        """The rows of an epoch in its order, in blocks of a window.

        Args:
            seed: The seed of the order.
            epoch: The number of the epoch, an int64 scalar.
        """
        sequence, window_key = self._sequence(seed, epoch)
        size = self._window_rows
        windows = tf.data.Dataset.range(-(-self._rows // size))

        def read(window: tf.Tensor) -> Any:
            start = window * size
            end = tf.minimum(start + size, self._rows)
            places = graph_hashing.shuffled(graph_hashing.extend(window_key, window), end - start)
            return self._block(start, end, places, sequence)

        return windows.map(read, num_parallel_calls=PARALLEL_WINDOWS, deterministic=True)

    def _sequence(self, seed: int, epoch: tf.Tensor) -> tuple[GraphRowSequence, tf.Tensor]:
        """The sequence of an epoch, and the key of its windows."""
        purposes = [hashing.derive(seed, purpose) for purpose in (hashing.CHUNKS, hashing.WINDOW_ROWS)]
        # A list of Python numbers, some above 2**63, would pass through float64.
        keys = graph_hashing.extend(tf.constant(np.array(purposes, dtype=np.uint64)), epoch)
        chunk_key, window_key = tf.unstack(keys)
        return self._places.shuffled(chunk_key), window_key

    def _block(self, start: tf.Tensor, end: tf.Tensor, places: tf.Tensor, sequence: GraphRowSequence) -> Any:
        """Reads the rows from `start` up to `end` of a sequence: row j of the block is row `places[j]` of these."""
        reads, skip = self._places.reads(sequence, start, end)
        places = places + tf.cast(skip, places.dtype)
        if self._held is not None:
            return self._of_view(reads, places)
        records, lost = self._records(reads)
        features, full = self.assembly.features, self._chunks.rows_per_record
        if full == 1:
            rows = decode.parse_single_rows(records, features=features)
        else:
            # The last record may hold more than the block.
            held = tf.raw_ops.Sum(input=reads.rows, axis=tf.constant(0))
            rows = decode.parse_row_groups(records, held, features=features, full=full)
        if self._bounds is not None or ROWS in self.assembly.beside:
            numbers = self._numbers(reads)
            if self._bounds is not None:
                places = tf.gather(self._inside(numbers), places)
            if ROWS in self.assembly.beside:
                rows[ROWS] = numbers
        if LOST in self.assembly.beside:
            rows[LOST] = tf.gather(lost, _record_of_rows(reads, full))
        return self.assembly.arrange({name: tf.gather(values, places) for name, values in rows.items()})

    def _of_view(self, reads: Reads, places: tf.Tensor) -> tf.Tensor:
        """The numbers in the view, as it is stored, of rows that would be read."""
        numbers = self._numbers(reads)
        if self._bounds is None:
            return tf.gather(numbers, places)
        numbers = tf.gather(numbers, tf.gather(self._inside(numbers), places))
        return numbers - tf.gather(self._left_out, tf.searchsorted(self._bounds, numbers, side="right") // 2)

    def _inside(self, numbers: tf.Tensor) -> tf.Tensor:
        """The places of the rows of the view among rows of these numbers."""
        return tf.where(tf.searchsorted(self._bounds, numbers, side="right") % 2 == 1)[:, 0]

    def _numbers(self, reads: Reads) -> tf.Tensor:
        """The number in the split, as it is stored, of each row that is read."""
        before = tf.cumsum(reads.rows, exclusive=True)
        firsts = tf.gather(self._firsts, reads.shard) + reads.first * self._chunks.rows_per_record - before
        numbers = tf.repeat(firsts, reads.rows)
        return numbers + tf.range(tf.size(numbers, tf.int64))

    def _records(self, reads: Reads) -> tuple[tf.Tensor, tf.Tensor]:
        """The records of chunks one after the other, and which of them could not be read: of shape [records].

        The second is None where that is an error.
        """
        single = self._chunks.rows_per_record == 1
        axis = tf.constant(0)
        total = tf.raw_ops.Sum(input=reads.records, axis=axis)
        if self.salvage.remote:
            return self._in_python(reads)
        if self.salvage.cached:
            files = tf.ensure_shape(tf.numpy_function(self.salvage.paths, [reads.shard], tf.string), [None])
        else:
            files = tf.raw_ops.GatherV2(params=self._files, indices=reads.shard, axis=axis)
        chunks = tf.data.Dataset.from_tensor_slices((files, reads.begin, reads.size, reads.records))
        together = self._places.together
        found = chunks.batch(together).interleave(
            lambda *several: _read_chunks(*several, as_one=single),
            cycle_length=PARALLEL_CHUNKS,
            # A whole chunk before the next one: that is the order.
            block_length=1 if single else self._chunks.records * together,
            num_parallel_calls=PARALLEL_CHUNKS,
            deterministic=True,
        )
        # Small records, and so many that they pass in batches; large ones are moved, where these are copied.
        found = found.rebatch(total) if single else found.batch(total)
        nothing = tf.data.Dataset.from_tensors(tf.constant([], tf.string))
        records = found.concatenate(nothing).take(1).get_single_element()
        return self._checked(records, total, reads)

    def _checked(self, records: tf.Tensor, total: tf.Tensor, reads: Reads) -> tuple[tf.Tensor, tf.Tensor]:
        """The records if all are there, and what is salvaged otherwise."""
        skips = self.salvage.skips

        def all_there() -> tuple[tf.Tensor, ...]:
            return (records, tf.zeros([total], tf.bool)) if skips else (records,)

        def read_again() -> tuple[tf.Tensor, ...]:
            return self._in_python(reads)[: 1 + skips]

        found = tf.cond(tf.equal(tf.size(records, tf.int64), total), all_there, read_again)
        return (found[0], found[1]) if skips else (found[0], None)

    def _in_python(self, reads: Reads) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The records of chunks as `_records` gives them, read by `salvage`."""
        inputs = [reads.shard, reads.begin, reads.size, reads.first, reads.records]
        types = [tf.string, tf.bool][: 1 + self.salvage.skips]
        found = [tf.ensure_shape(part, [None]) for part in tf.numpy_function(self.salvage, inputs, types)]
        return found[0], found[1] if self.salvage.skips else None


def _record_of_rows(reads: Reads, full: int) -> tf.Tensor:
    """The place, among all records that are read, of the record of each row."""
    before = tf.repeat(tf.cumsum(reads.rows, exclusive=True), reads.rows)
    row = tf.range(tf.size(before, tf.int64)) - before
    return tf.repeat(tf.cumsum(reads.records, exclusive=True), reads.rows) + row // full


def _read_chunks(
    files: tf.Tensor, begins: tf.Tensor, sizes: tf.Tensor, records: tf.Tensor, *, as_one: bool
) -> tf.data.Dataset:
    """The records of a chunk, or of several each of which ends its file: one by one, or as one element.

    None, if one cannot be read.
    """
    axis = tf.constant(0)

    def read(files: tf.Tensor, begins: tf.Tensor, sizes: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=files,
            compression_type="",
            # One request for a whole chunk.
            buffer_size=tf.raw_ops.Max(input=sizes, axis=axis),
            byte_offsets=begins,
        )
        total = tf.raw_ops.Sum(input=records, axis=axis)
        found = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
        return found.take(total).batch(total).get_single_element()

    # An error of a map leaves out the element, where a file that is missing would be asked for again for ever.
    found = tf.data.Dataset.from_tensors((files, begins, sizes, records)).map(read).ignore_errors()
    return found if as_one else found.unbatch()
