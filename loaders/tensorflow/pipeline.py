"""The `tf.data` pipeline of `loaders.Loader`: windows that NumPy has read, of which TensorFlow's C++ cuts batches.

One trace serves all positions: where an iterator begins is in a variable, and each iterator leaves there where the next
one begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from loaders.format.spec import FeatureSpec
from loaders.order.epoch import BatchShare
from loaders.order.position import IterationSpan
from loaders.reading import columns
from loaders.reading.row_reader import LOST as LOST_ROW
from loaders.reading.windows import BatchReader
from loaders.storage.store import ShardError
from loaders.tensorflow.augmenter import Augmenter, split_block
from loaders.tensorflow.batching import LOST, ROWS, Assembly
from loaders.tensorflow.last_steps import called
from loaders.tensorflow.ragged import bucketed

ENDLESS = tf.int64.max

HOST = "/cpu:0"


class StreamReader:
    """Reads the streams of a host from any row on.

    Attributes:
        assembly: As given.
        errors: What was wrong with shards, which TensorFlow passes on as a text. Whoever raises one takes it out: with
            its traceback it would hold the iterator, and the thread that drops it would wait for itself to end.
    """

    def __init__(self, reader: BatchReader, assembly: Assembly, deal: BatchShare) -> None:
        self._reader, self.assembly, self._deal = reader, assembly, deal
        self.errors: list[ShardError] = []
        beside = {ROWS: tf.int64, LOST: tf.bool}
        self._specs = {spec.name: _spec(spec) for spec in assembly.features}
        self._specs |= {name: tf.TensorSpec([None], beside[name]) for name in assembly.beside}

    def batches(self, epoch: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        """The batches of the host's streams in an epoch; the last one may have fewer rows, none or all of them.

        `start` is how many rows of each stream are consumed. Both are int64 scalars.
        """
        deal, buckets = self._deal, self.assembly.buckets
        plan = tf.numpy_function(called(self._reader.plan), [start], tf.int64)
        parts = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(plan, [None, 2]))
        rows = parts.map(lambda part: self._rows(epoch, part))  # one at a time: the reader reads ahead itself
        dropped = deal.remainder == "drop"
        if buckets:
            return bucketed(rows, buckets, batch_size=deal.batch_size, drop_remainder=dropped)
        return rows.rebatch(deal.stream_batch * len(deal.own), drop_remainder=dropped)

    def _rows(self, epoch: tf.Tensor, part: tf.Tensor) -> Any:
        types = [spec.dtype for spec in self._specs.values()]
        *found, wrong = tf.numpy_function(called(self._read), [epoch, part], [*types, tf.string])
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(wrong, ""), [wrong])]):
            found = list(map(tf.identity, found))
        tensors = zip(self._specs.items(), found, strict=True)
        rows = {name: tf.ensure_shape(values, spec.shape) for (name, spec), values in tensors}
        return rows if self.assembly.decode else self.assembly.arrange(rows)

    def _read(self, epoch: Any, part: Any) -> list[Any]:
        """The rows of a part of the plan, and last what is wrong with a shard, or "".

        TensorFlow takes arrays that are aligned as they are. Of an exception it would make a text of thirty lines.
        """
        wrong = ""
        try:
            found, numbers, _ = self._reader.rows(int(epoch), int(part[0]), int(part[1]))
        except ShardError as error:
            self.errors.append(ShardError(error.file, error.record, error.message, error.passing))
            wrong, (found, numbers, _) = str(error), self._reader.no_rows()
        columns = [found[spec.name] for spec in self.assembly.features]
        beside = [numbers if name == ROWS else numbers == LOST_ROW for name in self.assembly.beside]
        return [*columns, *beside, wrong]

    def padded(self, batch: Any, consumed: tf.Tensor, good: tf.Tensor | None = None) -> tuple[Any, tf.Tensor]:
        """A batch filled up to its full size, and the mask of what was there.

        It comes after `consumed` rows of each stream, and without those that are lost: `good` says which are not.
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


def _spec(feature: FeatureSpec) -> tf.TensorSpec:
    """What rows of a feature are as they are read: a ragged one is a string of bytes for each row."""
    return tf.TensorSpec([None], tf.string) if feature.ragged else tf.TensorSpec([None, *feature.shape], feature.dtype)


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
    """A variable for where an iterator begins: epoch, end and rows, int64 of shape [3].

    Raises:
        ValueError: Inside a function that TensorFlow traces, which can make no variable.
    """
    if tf.inside_function():
        raise ValueError(
            "expected a data set made outside of functions that TensorFlow traces (of tf.function, interleave, or a "
            "parameter server); found one made inside. Make it before, or use loaders.tfrecords, which has no variable"
        )
    with tf.device(HOST):
        return tf.Variable([0, 0, 0], dtype=tf.int64, trainable=False, name="start")


def set_start(variable: tf.Variable, span: IterationSpan) -> None:
    """Lets the next iterator read a span."""
    end = ENDLESS if span.end is None else span.end
    variable.assign([span.start.epoch, end, span.start.rows])


def build(
    reader: StreamReader, variable: tf.Variable, *, epochs: int | None, deal: BatchShare, augmenter: Augmenter | None
) -> tf.data.Dataset:
    """The batches from where a `start_variable` says on; the iterator after one begins with the next epochs."""

    def begin(start: tf.Tensor) -> tf.data.Dataset:
        epoch, end, rows = tf.unstack(variable.read_value())
        after = [epoch + 1, end] if epochs is None else [end, end + epochs]
        variable.assign(tf.stack([*after, tf.zeros_like(rows)]))
        # For ever nothing would never yield.
        numbers = tf.data.Dataset.range(epoch, end if deal.batches() else epoch)
        # A function more, for a map, would take a tenth of the time to the first batch.
        later = tf.data.Dataset.from_tensors(tf.zeros_like(rows)).repeat()
        return tf.data.Dataset.zip(numbers, tf.data.Dataset.from_tensors(rows).concatenate(later))

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
    deal: BatchShare,
    augmenter: Augmenter | None,
) -> tf.data.Dataset:
    """The batches of an epoch as they are yielded."""
    assembly, pads = reader.assembly, deal.remainder == "pad"
    parallel: dict[str, Any] = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    decode, arrange = assembly.decode, assembly.arrange
    if not assembly.beside and decode is not None:
        batches = batches.map(lambda block: arrange(decode(block)), **parallel)
    if not assembly.beside and not pads:
        return batches
    consumed = tf.data.Dataset.range(start, -(-deal.rows // deal.streams), deal.stream_batch)
    if not assembly.beside:
        return tf.data.Dataset.zip(batches, consumed).map(
            lambda batch, consumed: columns.with_mask(*reader.padded(batch, consumed)), **parallel
        )
    finished = batches.map(lambda block: split_block(assembly, block), **parallel)

    def change(parts: Any, consumed: tf.Tensor) -> Any:
        batch, numbers, good = parts
        if augmenter is not None:
            batch = augmenter(batch, numbers, good, epoch, consumed)
        if pads:
            batch, mask = reader.padded(batch, consumed, good)
        batch = arrange(batch)
        return columns.with_mask(batch, mask) if pads else batch

    return tf.data.Dataset.zip(finished, consumed).map(change, **parallel)


def count_batches(epochs: int | None, deal: BatchShare) -> int:
    """The cardinality of an iteration of all epochs."""
    return tf.data.INFINITE_CARDINALITY if epochs is None and deal.batches() else (epochs or 1) * deal.batches()
