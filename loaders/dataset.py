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

import tensorflow as tf

from loaders import decode, elements, graph, order, ragged
from loaders.chunks import Chunks, window_rows
from loaders.manifest import Manifest, ManifestError
from loaders.spec import FeatureSpec
from loaders.transform import INDICATOR_SUFFIX, Transform

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
    return _deliver(epochs(reader, rows, options), options)


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
    with tf.device("/cpu:0"):
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
        self._files = [posixpath.join(root, *shard.file.split("/")) for shard in manifest.shards(split)]
        self._window_rows = window_rows(manifest, split)

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
            lambda shard, *place: self._read_chunk(files[shard], *place),
            cycle_length=PARALLEL_CHUNKS,
            # A whole chunk before the next one: that is the order.
            block_length=1 if single else self._chunks.records,
            num_parallel_calls=PARALLEL_CHUNKS,
            deterministic=True,
        )

    def _locate(self, chunk: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The shard of each chunk, and the arguments of `_read_chunk`; `Chunks.locate` in the graph."""
        chunks, full = self._chunks, self._chunks.rows_per_record
        starts = tf.constant(chunks.starts)
        shard = tf.searchsorted(starts, chunk, side="right", out_type=tf.int64) - 1
        first = (chunk - tf.gather(starts, shard)) * chunks.records
        rows = tf.gather(tf.constant(chunks.rows), shard) - first * full
        records = tf.minimum(tf.constant(chunks.records, tf.int64), -(-rows // full))
        if chunks.record_bytes is None:
            begin = tf.gather(tf.constant(chunks.begins), chunk)
            return shard, begin, tf.gather(tf.constant(chunks.ends), chunk) - begin, records, rows
        # A full record may be larger than all that a short chunk holds.
        held = tf.minimum(rows, records * full)
        return shard, first * chunks.record_bytes, -(-held * chunks.record_bytes // full), records, rows

    def _read_chunk(
        self, file: tf.Tensor, begin: tf.Tensor, size: tf.Tensor, records: tf.Tensor, rows: tf.Tensor
    ) -> tf.data.Dataset:
        """The rows of `records` records in `size` bytes from byte `begin` on, where `rows` are left in the shard."""
        full, features, arrange = self._chunks.rows_per_record, self.form.features, self.form.arrange
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=tf.reshape(file, [1]),
            compression_type="",
            # One request for the whole chunk, and nothing beyond its last page.
            buffer_size=-(-size // PAGE) * PAGE,
            byte_offsets=tf.reshape(begin, [1]),
        )
        raw = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(records)
        # A shard that lost its last records would make a shorter epoch, and no error.
        raw = raw.apply(tf.data.experimental.assert_cardinality(records))
        if full == 1:
            return raw.batch(records).map(lambda strings: arrange(decode.parse_single_rows(strings, features=features)))

        def parse(number: tf.Tensor, record: tf.Tensor) -> Any:
            count = tf.minimum(tf.constant(full, tf.int64), rows - number * full)
            return arrange(decode.parse_row_group(record, count, features=features, full=full))

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
