"""Builds the `tf.data` pipeline of one split.

The order of an epoch is a pure function of (manifest, split, seed, epoch). The functions named here are those of
`loaders.order`.

1. A *chunk* is a run of consecutive records of one shard: `max(1, 2**20 // record_bytes)` records, or the manifest's
   `chunk_records` where records differ in size; fewer at the end of a shard. The chunks of a split are numbered from 0,
   over its shards in the manifest's order.
2. Position p of epoch e, counted from 0, reads chunk `permute(derive(seed, CHUNKS, e), p, chunks)`, where `chunks` is
   how many the split has. The rows of these chunks, one after the other as they are stored, are a sequence.
3. The sequence is cut into *windows* of `max(1, 2**25 // row_bytes)` rows, where `row_bytes` is the sum over all
   features of the data set, or, where records differ in size, `max(1, bytes // rows)` of the split's shards; the last
   window may hold fewer. Window w, of n rows, is put in the order
   `shuffled(derive(seed, WINDOW_ROWS, e, w), n)`: its row j is row `shuffled(...)[j]` of the sequence's window.
4. The windows, one after the other, are the epoch. Batches are cut from it in sequence and never cross its end; or rows
   are dealt to buckets in sequence, and a bucket gives a batch when it is full.

Without shuffling, an epoch is the rows as they are stored. `CHUNKS` is 4 and `WINDOW_ROWS` is 5.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from loaders import decode, elements, graph, order, ragged
from loaders.chunks import Chunks, window_rows
from loaders.manifest import Manifest, ManifestError
from loaders.places import Places, Reads
from loaders.places import Sequence as RowSequence
from loaders.spec import FeatureSpec
from loaders.transform import INDICATOR_SUFFIX, Transform

# Chunks of 1 MiB that are read at once for a window, and windows of 32 MiB that are decoded and put in order at once.
# They bound the memory.
PARALLEL_CHUNKS = 4
PARALLEL_WINDOWS = 2
# How many chunks make a block of rows that stay as they are stored: to begin one takes 2 ms.
STORED_CHUNKS = 8

HOST, GPU = "/cpu:0", "/gpu:0"


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
    ragged: ragged.Form
    bucket_boundaries: Sequence[int] | None
    bucket_by: str | None
    transform: bool

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is at least 1; found {self.batch_size}")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs is at least 1, or None for ever; found {self.epochs}")
        if self.prefetch < tf.data.AUTOTUNE:
            raise ValueError(f"prefetch is a number of batches, or tf.data.AUTOTUNE; found {self.prefetch}")
        if self.ragged not in ragged.FORMS:
            raise ValueError(f"ragged is one of {', '.join(ragged.FORMS)}; found {self.ragged!r}")

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
    form = make_form(root, manifest, options)
    rows = manifest.rows(split)
    if form.buckets and options.drop_remainder and options.epochs is None:
        enough = (len(form.buckets.boundaries) + 1) * (options.batch_size - 1) + 1
        if 0 < rows < enough:  # it might wait for a full batch for ever
            raise ValueError(f"{split}: expected {enough} rows, so that a bucket fills a batch; found {rows}")
    reader = Reader(root=root, manifest=manifest, split=split, form=form)
    # AutoGraph has nothing to convert before map_fn, and would take longer to find out than all the tracing.
    epochs = tf.autograph.experimental.do_not_convert(_epochs)
    return deliver(epochs(reader, rows, options), options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """How rows become elements.

    Attributes:
        features: The features to read.
        arrange: A function of each block, as it is read.
        finish: A function of each batch, or None.
        buckets: Which rows may be in one batch, or None for all.
    """

    features: tuple[FeatureSpec, ...]
    arrange: Callable[[decode.Tensors], Any]
    finish: Callable[[decode.Tensors], Any] | None
    buckets: ragged.Buckets | None


def make_form(root: str, manifest: Manifest, options: Options) -> Form:
    """How the rows of a data set become what the options ask for.

    Raises:
        ValueError: If the features do not fit the options.
    """
    features = manifest.features
    buckets = ragged.make_buckets(features, options.bucket_boundaries, by=options.bucket_by)
    transform = Transform(root, manifest) if options.transform and manifest.transformed is not None else None
    yielded = features if transform is None else transform.features
    lengths = {feature.name for feature in yielded if feature.ragged and options.ragged == "padded"}
    for feature in yielded:
        if feature.name.removesuffix(elements.LENGTH_SUFFIX) in lengths - {feature.name}:
            raise ValueError(
                f"{feature.name}: the lengths of a padded feature have this name; ragged='ragged' has none"
            )
    needed, arrange = decode.arranger(yielded, as_supervised=options.as_supervised, lengths=lengths)
    if transform is None and not any(feature.ragged for feature in needed) and buckets is None:
        return Form(features=needed, arrange=arrange, finish=None, buckets=None)
    names = {feature.name for feature in needed} | (transform.inputs if transform else frozenset())
    if buckets:
        names.add(buckets.feature.name)
    read = tuple(feature for feature in features if feature.name in names)

    def finish(block: decode.Tensors) -> Any:
        batch = _decode(block, read, options.ragged, buckets)
        return arrange(transform(batch) if transform else {name: batch[name] for name in batch if name in kept})

    kept = {feature.name for feature in needed} | {name + elements.LENGTH_SUFFIX for name in lengths}
    return Form(features=read, arrange=lambda block: block, finish=finish, buckets=buckets)


def _decode(
    block: decode.Tensors, features: Sequence[FeatureSpec], form: ragged.Form, buckets: ragged.Buckets | None
) -> decode.Tensors:
    """A batch of a block: ragged features decoded."""
    batch: decode.Tensors = {}
    for feature in features:
        values = block[feature.name]
        if not feature.ragged:
            batch[feature.name] = values
        elif form == "ragged":
            batch[feature.name] = ragged.decode_ragged(values, feature)
        else:
            # An indicator has the shape of what it tells of.
            same = buckets is not None and feature.name.removesuffix(INDICATOR_SUFFIX) == buckets.feature.name
            boundaries = buckets.boundaries if buckets and (same or buckets.feature == feature) else ()
            batch |= ragged.decode_padded(values, feature, boundaries=boundaries)
    return batch


def _epochs(reader: Reader, rows: int, options: Options) -> tf.data.Dataset:
    """The batches of all epochs; their number is known unless there are buckets."""
    buckets, finish = reader.form.buckets, reader.form.finish
    batches = options.batches(rows)
    # For ever nothing would never yield.
    epochs = options.epochs if batches else 1

    def count(dataset: tf.data.Dataset, number: int) -> tf.data.Dataset:
        # tf.data cannot count the elements of an interleave.
        return dataset if buckets else dataset.apply(tf.data.experimental.assert_cardinality(number))

    def epoch_batches(blocks: tf.data.Dataset) -> tf.data.Dataset:
        if buckets:
            return ragged.bucketed(
                blocks, buckets, batch_size=options.batch_size, drop_remainder=options.drop_remainder
            )
        return count(blocks.rebatch(options.batch_size, drop_remainder=options.drop_remainder), batches)

    if not options.shuffle:
        dataset = epoch_batches(reader.stored()).repeat(epochs)
    else:
        dataset = epoch_numbers(epochs).flat_map(lambda epoch: epoch_batches(reader.shuffled(options.seed, epoch)))
        dataset = count(dataset, tf.data.INFINITE_CARDINALITY if epochs is None else batches * epochs)
    if finish is None:
        return dataset
    return dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def epoch_numbers(epochs: int | None) -> tf.data.Dataset:
    """The numbers of the epochs that an iterator goes through, an int64 scalar each.

    Args:
        epochs: How many; None for no end.

    Returns:
        `epochs` consecutive numbers, the first iterator's from 0 and each further iterator's from where the one made
        before it ends. Without an end, iterator number i begins at i.
    """
    with tf.device(HOST):
        counter = tf.Variable(0, dtype=tf.int64, trainable=False, name="epochs")
    step = epochs or 1

    def begin(_: tf.Tensor) -> tf.data.Dataset:
        end = counter.assign_add(step)
        return tf.data.Dataset.range(end - step, tf.int64.max if epochs is None else end)

    return tf.data.Dataset.range(1).flat_map(begin)


class Reader:
    """Reads the rows of a split as blocks: elements of nested tensors of shape [rows, …]."""

    def __init__(self, *, root: str, manifest: Manifest, split: str, form: Form) -> None:
        self.form = form
        self._chunks = Chunks.of(manifest, split)
        self._rows = manifest.rows(split)
        self._window_rows = window_rows(manifest, split)
        shards = manifest.shards(split)
        files = [posixpath.join(root, *shard.file.split("/")) for shard in shards]
        # Tensors and no constants of a graph: each function would have a copy of its own.
        with tf.device(HOST):
            self._files = tf.constant(files, tf.string, shape=[len(files)])
            self._places = Places(self._chunks, [shard.bytes for shard in shards])

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
            places = graph.shuffled(graph.extend(window_key, window), end - start)
            return self._block(start, end, places, sequence)

        return windows.map(read, num_parallel_calls=PARALLEL_WINDOWS, deterministic=True)

    def _sequence(self, seed: int, epoch: tf.Tensor) -> tuple[RowSequence, tf.Tensor]:
        """The sequence of an epoch, and the key of its windows."""
        purposes = [order.derive(seed, purpose) for purpose in (order.CHUNKS, order.WINDOW_ROWS)]
        # A list of Python numbers, some above 2**63, would pass through float64.
        keys = graph.extend(tf.constant(np.array(purposes, dtype=np.uint64)), epoch)
        chunk_key, window_key = tf.unstack(keys)
        return self._places.shuffled(chunk_key), window_key

    def _block(self, start: tf.Tensor, end: tf.Tensor, places: tf.Tensor, sequence: RowSequence) -> Any:
        """Reads the rows from `start` up to `end` of a sequence: row j of the block is row `places[j]` of these."""
        reads, skip = self._places.reads(sequence, start, end)
        records, features, full = self._records(reads), self.form.features, self._chunks.rows_per_record
        if full == 1:
            rows = decode.parse_single_rows(records, features=features)
        else:
            # The last record may hold more than the block.
            held = tf.raw_ops.Sum(input=reads.rows, axis=tf.constant(0))
            rows = decode.parse_row_groups(records, held, features=features, full=full)
        places = places + tf.cast(skip, places.dtype)
        return self.form.arrange({name: tf.gather(values, places) for name, values in rows.items()})

    def _records(self, reads: Reads) -> tf.Tensor:
        """The records of chunks one after the other: strings of shape [records]."""
        single = self._chunks.rows_per_record == 1
        axis = tf.constant(0)
        total = tf.raw_ops.Sum(input=reads.records, axis=axis)
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
        if single:  # small records, and so many that they pass in batches; large ones are moved, where these are copied
            return found.rebatch(total).get_single_element()
        return _counted(found, total).batch(total).get_single_element()


def _read_chunks(
    files: tf.Tensor, begins: tf.Tensor, sizes: tf.Tensor, records: tf.Tensor, *, as_one: bool
) -> tf.data.Dataset:
    """The records of a chunk, or of several each of which ends its file: one by one, or as one element."""
    axis = tf.constant(0)
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=files,
        compression_type="",
        # One request for a whole chunk.
        buffer_size=tf.raw_ops.Max(input=sizes, axis=axis),
        byte_offsets=begins,
    )
    total = tf.raw_ops.Sum(input=records, axis=axis)
    found = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(total)
    return _counted(found, total).batch(total) if as_one else found


def _counted(records: tf.data.Dataset, total: tf.Tensor) -> tf.data.Dataset:
    # A shard that lost its last records would make a shorter epoch, and no error.
    return records.apply(tf.data.experimental.assert_cardinality(total))


def deliver(dataset: tf.data.Dataset, options: Options) -> tf.data.Dataset:
    """The last steps of a pipeline: the user's function, prefetching, and the copy to a device."""
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
