"""Builds the `tf.data` pipeline of one split.

The order of an epoch is a pure function of (manifest, split, seed, epoch). The functions named here are those of
`loaders.order.hashing`.

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

import tensorflow as tf

from loaders.format.manifest import Manifest, ManifestError
from loaders.order import splits
from loaders.tensorflow import ragged
from loaders.tensorflow.batching import Options, make_form
from loaders.tensorflow.blocks import HOST, Reader
from loaders.tensorflow.untuned import untuned

GPU = "/gpu:0"


def build(root: str, manifest: Manifest, split: str, *, options: Options) -> tf.data.Dataset:
    """The pipeline that `loaders.load` returns.

    Args:
        root: Where the data set is.
        manifest: What it holds.
        split: The name of a split, or rows of it; see `loaders.order.splits.resolve`.
        options: What to yield.

    Returns:
        Batches of rows.

    Raises:
        ManifestError: If there is no such split.
        ValueError: If a feature with a role that `as_supervised` needs is missing, or `split` means nothing.
    """
    try:
        view = splits.resolve(manifest, split)
    except ManifestError as error:
        raise ManifestError(f"{root}: {error}") from error
    form = make_form(root, manifest, options)
    rows = view.rows
    if form.buckets and options.drop_remainder and options.epochs is None:
        enough = (len(form.buckets.boundaries) + 1) * (options.batch_size - 1) + 1
        if 0 < rows < enough:  # it might wait for a full batch for ever
            raise ValueError(f"{split}: expected {enough} rows, so that a bucket fills a batch; found {rows}")
    reader = Reader(root=root, view=view, form=form, in_memory=options.in_memory)
    # AutoGraph has nothing to convert before map_fn, and would take longer to find out than all the tracing.
    epochs = tf.autograph.experimental.do_not_convert(_epochs)
    return deliver(epochs(reader, rows, options), options)


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
                reader.whole(blocks), buckets, batch_size=options.batch_size, drop_remainder=options.drop_remainder
            )
        cut = blocks.rebatch(options.batch_size, drop_remainder=options.drop_remainder)
        return count(reader.whole(cut), batches)

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

    def begin(one: tf.Tensor) -> tf.data.Dataset:
        end = counter.assign_add(step)
        return tf.data.Dataset.range(end - step, tf.int64.max if epochs is None else end)

    return tf.data.Dataset.range(1).flat_map(begin)


def deliver(dataset: tf.data.Dataset, options: Options) -> tf.data.Dataset:
    """The last steps of a pipeline: the user's function, prefetching, and the copy to a device."""
    if options.map_fn is not None:
        dataset = dataset.map(options.map_fn, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if options.prefetch:
        dataset = dataset.prefetch(options.prefetch)
    dataset = untuned(dataset)
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
