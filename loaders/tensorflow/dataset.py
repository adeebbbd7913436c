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

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from loaders.format.manifest import ManifestError
from loaders.order import splits
from loaders.reading.prefetch import AUTOTUNE
from loaders.storage.files import read_manifest
from loaders.tensorflow.batching import Options, make_assembly
from loaders.tensorflow.blocks import HOST, BlockReader
from loaders.tensorflow.delivery import deliver
from loaders.tensorflow.ragged import RaggedOutput, bucketed


def load(
    root: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int,
    shuffle: bool = True,
    seed: int = 0,
    epochs: int | None = 1,
    drop_remainder: bool = False,
    as_supervised: bool = False,
    map_fn: Callable[..., Any] | None = None,
    prefetch: int = AUTOTUNE,
    device: str | None = None,
    ragged: RaggedOutput = "padded",
    bucket_boundaries: Sequence[int] | None = None,
    bucket_by: str | None = None,
    transform: bool = True,
    in_memory: bool = False,
) -> tf.data.Dataset:
    """Makes a pipeline that yields every row of a split once an epoch.

    The order is a function of the data set, the seed and the number of the epoch, and of nothing else. A data set
    that is iterated again goes on with the next epochs, so `model.fit(dataset, epochs=3)` sees three orders; one that
    is loaded again begins with epoch 0.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.
        split: The name of a split, or rows of it, such as "train[:10%]", as in `loaders.numpy.Loader`.
        batch_size: The rows of a batch. No batch has rows of two epochs.
        shuffle: Whether each epoch has its own order; otherwise rows come as they are stored.
        seed: The seed of the order.
        epochs: How many epochs one iteration has; None has no end.
        drop_remainder: Whether to leave out an epoch's last batch where it is not full. The batch axis of
            `element_spec` is then known.
        as_supervised: Whether to yield `(inputs, labels)`, or `(inputs, labels, weights)` where a feature has the role
            of a weight, by the features' roles. Each is a tensor where one feature has the role, a dict of them
            where many have. An id is left out.
        map_fn: A function of a batch, called as `tf.data.Dataset.map` calls it, for several batches at once.
        prefetch: How many batches to keep ready; `AUTOTUNE` lets `tf.data` choose, 0 keeps none.
        device: Where batches are put: a device's name, such as "/gpu:0"; "auto" for the first GPU, if there is one;
            None for the host's memory.
        ragged: What a feature whose rows differ in length becomes: "padded", a tensor of shape
            [batch, length, *inner shape], filled up with zeros to the longest row of the batch, and beside it
            `<name>_length`, the int64 lengths of shape [batch]; or "ragged", a `tf.RaggedTensor`.
        bucket_boundaries: Lengths in ascending order. A batch then has rows of one bucket only: those that are longer
            than the boundary before and at most as long as this one, to which they are padded; what is longer than
            all has a bucket of its own. A batch comes when its bucket is full, and at the end of an epoch what is left.
        bucket_by: The feature whose lengths are meant, where several differ in length.
        transform: Whether features that the shards hold as they are in the sources (`store: raw`) are transformed;
            otherwise they are yielded as they are, for `loaders.open(root).transform`.
        in_memory: Whether all rows of the split are read and decoded at once, and kept: for a split that fits the
            memory several times over, and is gone through often. The order is the same.

    Returns:
        Dicts of a tensor of shape [batch, *shape] for each feature's name, of the feature's dtype; or what
        `as_supervised` or `map_fn` makes of them. Its `cardinality()` is known unless there are buckets.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If `batch_size` or `seed` is not an integer.
        ValueError: If an option's value is not allowed, `as_supervised` lacks an input or a label, or `split` means no
            rows.
    """
    options = Options(
        batch_size=operator.index(batch_size),
        shuffle=shuffle,
        seed=operator.index(seed),
        epochs=epochs,
        drop_remainder=drop_remainder,
        as_supervised=as_supervised,
        map_fn=map_fn,
        prefetch=prefetch,
        device=device,
        ragged=ragged,
        bucket_boundaries=bucket_boundaries,
        bucket_by=bucket_by,
        transform=transform,
        in_memory=in_memory,
    )
    path, manifest = os.fspath(root), read_manifest(root)
    try:
        view = splits.resolve(manifest, split)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error
    assembly = make_assembly(path, manifest, options)
    rows = view.rows
    if assembly.buckets and options.drop_remainder and options.epochs is None:
        enough = (len(assembly.buckets.boundaries) + 1) * (options.batch_size - 1) + 1
        if 0 < rows < enough:  # it might wait for a full batch for ever
            raise ValueError(f"{split}: expected {enough} rows, so that a bucket fills a batch; found {rows}")
    reader = BlockReader(root=path, view=view, assembly=assembly, in_memory=options.in_memory)
    # AutoGraph has nothing to convert before map_fn, and would take longer to find out than all the tracing.
    make_batches = tf.autograph.experimental.do_not_convert(_epochs)
    return deliver(make_batches(reader, rows, options), map_fn=map_fn, prefetch=prefetch, device=device)


def _epochs(reader: BlockReader, rows: int, options: Options) -> tf.data.Dataset:
    """The batches of all epochs; their number is known unless there are buckets."""
    buckets, finish = reader.assembly.buckets, reader.assembly.finish
    batches = options.batches(rows)
    # For ever nothing would never yield.
    epochs = options.epochs if batches else 1

    def count(dataset: tf.data.Dataset, number: int) -> tf.data.Dataset:
        # tf.data cannot count the elements of an interleave.
        return dataset if buckets else dataset.apply(tf.data.experimental.assert_cardinality(number))

    def epoch_batches(blocks: tf.data.Dataset) -> tf.data.Dataset:
        if buckets:
            return bucketed(
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

    def begin(start: tf.Tensor) -> tf.data.Dataset:
        end = counter.assign_add(step)
        return tf.data.Dataset.range(end - step, tf.int64.max if epochs is None else end)

    return tf.data.Dataset.range(1).flat_map(begin)
