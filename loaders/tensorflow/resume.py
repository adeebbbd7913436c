"""The `tf.data` pipeline of `loaders.Loader`: that of `tensorflow.dataset`, but from any row on, of a host's streams.

One trace serves all positions: where an iterator begins is in a variable, and each iterator leaves there where the next
one begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from loaders.order.epoch import Deal
from loaders.order.position import IterationSpan
from loaders.reading import columns
from loaders.tensorflow import graph_hashing
from loaders.tensorflow.augmenter import Augmenter, split_block
from loaders.tensorflow.blocks import HOST, PARALLEL_WINDOWS, STORED_CHUNKS, BlockReader
from loaders.tensorflow.places import GraphRowSequence

ENDLESS = tf.int64.max


class StreamReader(BlockReader):
    """Reads the streams of a host from any row on.

    Args:
        deal: How rows are dealt to streams.
        seed: The seed of the order; None for rows as they are stored.
        fields: What `BlockReader` takes.
    """

    def __init__(self, *, deal: Deal, seed: int | None, **fields: Any) -> None:
        super().__init__(**fields)
        self._deal, self._seed = deal, seed

    def batches(self, epoch: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        """The batches of the host's streams in an epoch; the last one may have fewer rows, none or all of them.

        Args:
            epoch: The number of the epoch, an int64 scalar.
            start: How many rows of each stream are consumed, an int64 scalar.
        """
        deal = self._deal
        dropped = deal.remainder == "drop"
        order = None if self._seed is None else self._sequence(self._seed, epoch)

        def stream(number: tf.Tensor) -> tf.data.Dataset:
            first, end = (tf.math.floordiv((number + more) * deal.rows, deal.streams) for more in (0, 1))
            if order is None:
                return self._stored_rows(tf.minimum(first + start, end), end)
            return self._windows(first, end, start, number, *order)

        if len(deal.own) == 1:
            rows = stream(tf.constant(deal.own[0], tf.int64))
        else:
            # Streams differ in at most one row, so only the last batch is not full, and is what streams have left.
            rows = tf.data.Dataset.range(deal.own.start, deal.own.stop, deal.own.step).interleave(
                lambda number: stream(number).rebatch(deal.stream_batch).map(_copied),
                cycle_length=len(deal.own),
                block_length=1,
            )
        batches = rows.rebatch(deal.stream_batch * len(deal.own), drop_remainder=dropped)
        if not dropped or deal.streams == 1:
            return batches
        # Another host's stream may be the one that ends a batch earlier.
        shortest = deal.rows // deal.streams
        return batches.take(tf.math.floordiv(tf.maximum(shortest - start, 0), deal.stream_batch))

    def _stored_rows(self, start: tf.Tensor, end: tf.Tensor) -> tf.data.Dataset:
        """The rows from `start` up to `end` as they are stored."""
        size = STORED_CHUNKS * self._chunks.records * self._chunks.rows_per_record

        def read(at: tf.Tensor) -> Any:
            stop = tf.minimum(at + size, end)
            return self._block(at, stop, tf.range(stop - at), self._places.stored)

        return tf.data.Dataset.range(start, end, size).map(read, **self._parallel())

    def _windows(
        self,
        first: tf.Tensor,
        end: tf.Tensor,
        start: tf.Tensor,
        stream: tf.Tensor,
        sequence: GraphRowSequence,
        key: tf.Tensor,
    ) -> tf.data.Dataset:
        """The rows of the stream `[first, end)` from its row `start` on, in the order of its windows."""
        size = max(1, self._window_rows // self._deal.streams)
        begin = tf.minimum(first + start, end)
        # No window where all is consumed, also of a last one that is not full.
        windows = tf.math.floordiv(tf.where(begin < end, end - first + (size - 1), 0), size)

        def read(window: tf.Tensor) -> Any:
            low = first + window * size
            high = tf.minimum(low + size, end)
            places = graph_hashing.shuffled(graph_hashing.extend(key, window * self._deal.streams + stream), high - low)
            # No slice: as in `_copied`.
            left = tf.gather(places, tf.range(tf.maximum(begin - low, 0), high - low))
            return self._block(low, high, left, sequence)

        return tf.data.Dataset.range(tf.math.floordiv(start, size), windows).map(read, **self._parallel())

    def _parallel(self) -> dict[str, Any]:
        # Each stream has a window in the making: together they are the bytes of one.
        return {
            "num_parallel_calls": PARALLEL_WINDOWS if len(self._deal.own) == 1 else 1,
            "deterministic": True,
        }

    def padded(self, batch: Any, consumed: tf.Tensor, good: tf.Tensor | None = None) -> tuple[Any, tf.Tensor]:
        """A batch filled up to its full size, and the mask of what was there.

        Args:
            batch: What is made of one of `batches`, without the rows that are lost.
            consumed: How many rows of each stream came before, an int64 scalar.
            good: Which of the rows that were dealt are not lost; None for all.
        """
        deal = self._deal
        lengths = np.array([end - first for first, end in map(deal.bounds, deal.own)], dtype=np.int64)[:, np.newaxis]
        size = deal.stream_batch * len(deal.own)
        rank = tf.range(deal.stream_batch, dtype=tf.int64)
        mask = tf.reshape(rank < lengths - consumed, [size])
        if good is not None:
            mask = tf.tensor_scatter_nd_update(mask, tf.where(mask), good)
        batch = tf.cond(tf.reduce_all(mask), lambda: batch, lambda: _filled(batch, mask))
        return tf.nest.map_structure(lambda values: _of_size(values, size), batch), mask


def _copied(*parts: Any) -> Any:
    # To batch slices again, which are parts of a buffer, TensorFlow writes a line about each to the log.
    rows = parts if len(parts) > 1 else parts[0]  # a tuple comes as several
    return tf.nest.map_structure(lambda values: tf.gather(values, tf.range(tf.shape(values)[0])), rows)


def _of_size(values: Any, size: int) -> Any:
    return values if isinstance(values, tf.RaggedTensor) else tf.ensure_shape(values, [size, *values.shape[1:]])


def _filled(batch: Any, mask: tf.Tensor) -> Any:
    """The rows of a batch at the places where the mask is True, and zeros at the others."""
    counts = tf.cumsum(tf.cast(mask, tf.int64))
    places = tf.where(mask, counts - 1, counts[-1])

    def fill(values: Any) -> Any:
        if isinstance(values, tf.RaggedTensor):
            nothing: Any = tf.RaggedTensor.from_row_lengths(
                values.values[:0], tf.constant([0], values.row_splits.dtype)
            )
        else:
            nothing = tf.zeros(tf.concat([[1], tf.shape(values)[1:]], 0), values.dtype)
        return tf.gather(tf.concat([values, nothing], 0), places)

    return tf.nest.map_structure(fill, batch)


def start_variable() -> tf.Variable:
    """A variable for where an iterator begins: epoch, end and rows, int64 of shape [3]."""
    with tf.device(HOST):
        return tf.Variable([0, 0, 0], dtype=tf.int64, trainable=False, name="start")


def set_start(variable: tf.Variable, span: IterationSpan) -> None:
    """Lets the next iterator read a span."""
    end = ENDLESS if span.end is None else span.end
    variable.assign([span.start.epoch, end, span.start.rows])


def build(
    reader: StreamReader, variable: tf.Variable, *, epochs: int | None, deal: Deal, augmenter: Augmenter | None
) -> tf.data.Dataset:
    """The batches from where the variable says on; the iterator after one begins with the next epochs.

    Args:
        reader: What reads them.
        variable: Of `start_variable`.
        epochs: How many epochs an iterator has; None for no end.
        deal: How rows are dealt to batches.
        augmenter: What changes batches, or None.
    """

    def begin(start: tf.Tensor) -> tf.data.Dataset:
        epoch, end, rows = tf.unstack(variable.read_value())
        after = [epoch + 1, end] if epochs is None else [end, end + epochs]
        variable.assign(tf.stack([*after, tf.zeros_like(rows)]))
        # For ever nothing would never yield.
        numbers = tf.data.Dataset.range(epoch, end if deal.batches() else epoch)
        return numbers.map(lambda number: (number, tf.where(number == epoch, rows, tf.zeros_like(rows))))

    def epoch_batches(epoch: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        batches = reader.batches(epoch, start)
        if deal.remainder == "pad":
            # A host may have no row in the last batch.
            nothing = tf.nest.map_structure(
                lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), batches.element_spec
            )
            batches = batches.concatenate(tf.data.Dataset.from_tensors(nothing))
        return _changed(reader, batches, epoch, start, deal=deal, augmenter=augmenter)

    # AutoGraph has nothing to convert here, and would take longer to find out than all the tracing.
    plain = tf.autograph.experimental.do_not_convert
    return tf.data.Dataset.range(1).flat_map(plain(begin)).flat_map(plain(epoch_batches))


def _changed(
    reader: StreamReader,
    batches: tf.data.Dataset,
    epoch: tf.Tensor,
    start: tf.Tensor,
    *,
    deal: Deal,
    augmenter: Augmenter | None,
) -> tf.data.Dataset:
    """The batches of an epoch as they are yielded."""
    assembly, pads = reader.assembly, deal.remainder == "pad"
    parallel: dict[str, Any] = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    batches = reader.whole(batches)
    if not assembly.beside and assembly.finish is not None:
        batches = batches.map(assembly.finish, **parallel)
    if not assembly.beside and not pads:
        return batches
    consumed = tf.data.Dataset.range(start, -(-deal.rows // deal.streams), deal.stream_batch)
    if not assembly.beside:
        return tf.data.Dataset.zip(batches, consumed).map(
            lambda batch, consumed: _with_mask(*reader.padded(batch, consumed)), **parallel
        )
    finished = batches.map(lambda block: split_block(assembly, block), **parallel)

    def change(parts: Any, consumed: tf.Tensor) -> Any:
        batch, numbers, good = parts
        if augmenter is not None:
            batch = augmenter(batch, numbers, good, epoch, consumed)
        if pads:
            batch, mask = reader.padded(batch, consumed, good)
        batch = batch if assembly.present is None else assembly.present(batch)
        return _with_mask(batch, mask) if pads else batch

    return tf.data.Dataset.zip(finished, consumed).map(change, **parallel)


def _with_mask(batch: Any, mask: tf.Tensor) -> Any:
    return batch | {columns.MASK: mask} if isinstance(batch, dict) else (*batch, mask)


def count_batches(epochs: int | None, deal: Deal) -> int:
    """The cardinality of an iteration of all epochs."""
    return tf.data.INFINITE_CARDINALITY if epochs is None and deal.batches() else (epochs or 1) * deal.batches()
