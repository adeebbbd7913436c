"""Builds the `tf.data` pipeline of one split.

The order of an epoch is a pure function of (manifest, split, seed, epoch). The functions named here are those of
`loaders.order`.

1. A *chunk* is a run of consecutive records of one shard: `max(1, 2**20 // record_bytes)` records, fewer at the end of
   a shard. The chunks of a split are numbered from 0, over its shards in the manifest's order.
2. Position p of epoch e, counted from 0, reads chunk `permute(derive(seed, CHUNKS, e), p, chunks)`, where `chunks` is
   how many the split has. The rows of these chunks, one after the other as they are stored, are a sequence.
3. The sequence is cut into *windows* of `max(1, 2**25 // row_bytes)` rows, where `row_bytes` is the sum over all
   features of the data set; the last window may hold fewer. Window w, of n rows, is put in the order
   `shuffled(derive(seed, WINDOW_ROWS, e, w), n)`: its row j is row `shuffled(...)[j]` of the sequence's window.
4. The windows, one after the other, are the epoch. Batches are cut from it in sequence and never cross its end.

Without shuffling, an epoch is the rows as they are stored. `CHUNKS` is 4 and `WINDOW_ROWS` is 5.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from loaders import decode, graph, order
from loaders.chunks import Chunks, window_rows
from loaders.manifest import Manifest, ManifestError

# Chunks of 1 MiB that are read and decoded at once, and windows of 32 MiB that are put in order at once. They bound
# the memory.
PARALLEL_CHUNKS = 4
PARALLEL_WINDOWS = 2
PAGE = 4096
# Chunks whose place is computed by one call; it takes about a millisecond.
POSITIONS = 256

GPU = "/gpu:0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a pipeline yields; `loaders.load` says what each option means.

    Raises:
        ValueError: If a value is outside what is allowed.
    """

    batch_size: int
    shuffle: bool
    seed: int
    epochs: int | None
    drop_remainder: bool
    as_supervised: bool
    map_fn: Callable[..., Any] | None
    prefetch: int
    device: str | None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is at least 1; found {self.batch_size}")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs is at least 1, or None for ever; found {self.epochs}")
        if self.prefetch < tf.data.AUTOTUNE:
            raise ValueError(f"prefetch is a number of batches, or tf.data.AUTOTUNE; found {self.prefetch}")

    def batches(self, rows: int) -> int:
        """How many batches an epoch of `rows` rows has."""
        return rows // self.batch_size if self.drop_remainder else -(-rows // self.batch_size)


def build(root: str, manifest: Manifest, split: str, *, options: Options) -> tf.data.Dataset:
    """The pipeline that `loaders.load` returns.

    Args:
        root: Where the data set is.
        manifest: What it holds.
        split: The name of a split.
        options: What to yield.

    Returns:
        Batches of rows.

    Raises:
        ManifestError: If there is no such split.
        ValueError: If a feature with a role that `as_supervised` needs is missing.
    """
    if split not in manifest.splits:
        raise ManifestError(f"{root}: there is no split {split!r}; the splits are {', '.join(manifest.splits)}")
    reader = Reader(root=root, manifest=manifest, split=split, as_supervised=options.as_supervised)
    # AutoGraph has nothing to convert before map_fn, and would take longer to find out than all the tracing.
    epochs = tf.autograph.experimental.do_not_convert(_epochs)
    return _deliver(epochs(reader, manifest.rows(split), options), options)


def _epochs(reader: Reader, rows: int, options: Options) -> tf.data.Dataset:
    """The batches of all epochs; their number is known."""
    batches = options.batches(rows)
    # For ever nothing would never yield.
    epochs = options.epochs if batches else 1

    def epoch_batches(blocks: tf.data.Dataset) -> tf.data.Dataset:
        cut = blocks.rebatch(options.batch_size, drop_remainder=options.drop_remainder)
        # tf.data cannot count the elements of an interleave.
        return cut.apply(tf.data.experimental.assert_cardinality(batches))

    if not options.shuffle:
        return epoch_batches(reader.stored()).repeat(epochs)
    dataset = epoch_numbers(epochs).flat_map(lambda epoch: epoch_batches(reader.shuffled(options.seed, epoch)))
    total = tf.data.INFINITE_CARDINALITY if epochs is None else batches * epochs
    return dataset.apply(tf.data.experimental.assert_cardinality(total))


def epoch_numbers(epochs: int | None) -> tf.data.Dataset:
    """The numbers of the epochs that an iterator goes through, an int64 scalar each.

    Args:
        epochs: How many; None for no end.

    Returns:
        `epochs` consecutive numbers, the first iterator's from 0 and each further iterator's from where the one made
        before it ends. Without an end, iterator number i begins at i.
    """
    with tf.device("/cpu:0"):
        counter = tf.Variable(0, dtype=tf.int64, trainable=False, name="epochs")
    step = epochs or 1

    def begin(_: tf.Tensor) -> tf.data.Dataset:
        end = counter.assign_add(step)
        return tf.data.Dataset.range(end - step, tf.int64.max if epochs is None else end)

    return tf.data.Dataset.range(1).flat_map(begin)


class Reader:
    """Reads the rows of a split as blocks: elements of nested tensors of shape [rows, *shape]."""

    def __init__(self, *, root: str, manifest: Manifest, split: str, as_supervised: bool) -> None:
        self._features, self._arrange = decode.arranger(manifest.features, as_supervised=as_supervised)
        self._chunks = Chunks.of(manifest, split)
        self._files = [posixpath.join(root, *shard.file.split("/")) for shard in manifest.shards(split)]
        self._record_bytes = manifest.record_bytes
        self._window_rows = window_rows(manifest.features)

    def stored(self) -> tf.data.Dataset:
        """The rows as they are stored, in blocks of any size."""
        return self._read(lambda position: position)

    def shuffled(self, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        """The rows of an epoch in its order, in blocks of a window.

        Args:
            seed: The seed of the order.
            epoch: The number of the epoch, an int64 scalar.
        """

        def derive(purpose: int, *words: tf.Tensor) -> tf.Tensor:
            return graph.derive(graph.u64(seed), tf.constant(purpose, tf.int64), epoch, *words)

        def shuffle_window(window: tf.Tensor, rows: Any) -> Any:
            count = tf.shape(tf.nest.flatten(rows)[0], out_type=tf.int64)[0]
            places = graph.shuffled(derive(order.WINDOW_ROWS, window), count)
            return tf.nest.map_structure(lambda values: tf.gather(values, places), rows)

        windows = self._read(lambda at: graph.permute(derive(order.CHUNKS), at, self._chunks.size))
        windows = _numbered(windows.rebatch(self._window_rows))
        return windows.map(shuffle_window, num_parallel_calls=PARALLEL_WINDOWS, deterministic=True)

    def _read(self, chunk_at: Callable[[tf.Tensor], tf.Tensor]) -> tf.data.Dataset:
        """Reads chunk `chunk_at(p)` for each position p in order; the function maps int64 tensors of any shape."""
        files = tf.constant(self._files, tf.string, shape=[len(self._files)])
        positions = tf.data.Dataset.range(self._chunks.size).batch(POSITIONS)
        places = positions.map(lambda position: self._locate(chunk_at(position))).prefetch(1).unbatch()
        single = self._chunks.rows_per_record == 1
        return places.interleave(
            lambda shard, first, records, rows: self._read_chunk(files[shard], first, records, rows),
            cycle_length=PARALLEL_CHUNKS,
            # A whole chunk before the next one: that is the order.
            block_length=1 if single else self._chunks.records,
            num_parallel_calls=PARALLEL_CHUNKS,
            deterministic=True,
        )

    def _locate(self, chunk: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """`Chunks.locate` in the graph, and the rows of the shard from the chunk on."""
        chunks = self._chunks
        starts = tf.constant(chunks.starts)
        shard = tf.searchsorted(starts, chunk, side="right", out_type=tf.int64) - 1
        first = (chunk - tf.gather(starts, shard)) * chunks.records
        rows = tf.gather(tf.constant(chunks.rows), shard) - first * chunks.rows_per_record
        records = tf.minimum(tf.constant(chunks.records, tf.int64), -(-rows // chunks.rows_per_record))
        return shard, first, records, rows

    def _read_chunk(self, file: tf.Tensor, first: tf.Tensor, records: tf.Tensor, rows: tf.Tensor) -> tf.data.Dataset:
        """The rows of `records` records of a file, of which `rows` rows are left from record `first` on."""
        full = self._chunks.rows_per_record
        # What the rows need, up to a whole page; a full record may be larger than all that a short chunk holds.
        held = tf.minimum(rows, records * full)
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=tf.reshape(file, [1]),
            compression_type="",
            # One request for the whole chunk, and nothing beyond it.
            buffer_size=-(-held * self._record_bytes // (full * PAGE)) * PAGE,
            byte_offsets=tf.reshape(first * self._record_bytes, [1]),
        )
        raw = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(records)
        # A shard that lost its last records would make a shorter epoch, and no error.
        raw = raw.apply(tf.data.experimental.assert_cardinality(records))
        if full == 1:
            return raw.batch(records).map(
                lambda strings: self._arrange(decode.parse_single_rows(strings, features=self._features))
            )

        def parse(number: tf.Tensor, record: tf.Tensor) -> Any:
            count = tf.minimum(tf.constant(full, tf.int64), rows - number * full)
            return self._arrange(decode.parse_row_group(record, count, features=self._features, full=full))

        return _numbered(raw).map(parse)


def _numbered(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Pairs of 0, 1, 2, … and an element."""
    # Dataset.enumerate would rewrite its graph each time it is made inside another dataset: 5 ms for each chunk.
    return tf.data.Dataset.zip(tf.data.Dataset.range(tf.int64.max), dataset)


def _deliver(dataset: tf.data.Dataset, options: Options) -> tf.data.Dataset:
    if options.map_fn is not None:
        dataset = dataset.map(options.map_fn, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if options.prefetch:
        dataset = dataset.prefetch(options.prefetch)
    settings = tf.data.Options()
    settings.deterministic = True
    dataset = dataset.with_options(settings)
    device = options.device
    if device == "auto":
        device = GPU if tf.config.list_physical_devices("GPU") else None
    return _prefetch_to_device(dataset, device) if device else dataset


def _prefetch_to_device(dataset: tf.data.Dataset, device: str) -> tf.data.Dataset:
    """Copies batches to a device ahead of their use; must be the last step."""
    count = dataset.cardinality()
    dataset = dataset.apply(tf.data.experimental.prefetch_to_device(device))
    # The copy is behind a generator, of which tf.data does not know that it keeps the number of elements.
    dataset.cardinality = lambda: count
    return dataset
