"""`loaders.load` and `loaders.Loader`: batches of tensors, and a state that says what was consumed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Unpack

import tensorflow as tf

from loaders.buffers import Buffers
from loaders.format.manifest import Manifest
from loaders.numpy import ArrayBatches
from loaders.options import TensorFlowKeywords, TensorFlowOptions, shows
from loaders.order import hashing
from loaders.order.epoch import Position
from loaders.order.position import IterationSpan, position_after
from loaders.reading import columns
from loaders.reading.loader import ResumableLoader
from loaders.reading.row_reader import HeldRows, RowReader
from loaders.reading.windows import BatchReader
from loaders.tensorflow import pipeline
from loaders.tensorflow.augmenter import Augmenter, sample_batch
from loaders.tensorflow.batching import LOST, ROWS, Assembly, make_assembly
from loaders.tensorflow.last_steps import check_device, deliver, device_of, tensors, with_cardinality
from loaders.tensorflow.pipeline import StreamReader


@shows(TensorFlowOptions)
class Loader(ResumableLoader):
    """Yields every row of a split once an epoch, as batches of tensors, and remembers where it is.

    The order is a function of the data set, the seed, the number of the epoch and `streams`, and of nothing else; it is
    that of `loaders.numpy.Loader`, and each loads the other's state. With one stream it is that of `loaders.load` too.
    A loader that is iterated again goes on with the next epochs, and one that was left counts as if it had ended; after
    `load_state_dict` it goes on at the state. What was consumed is not read again.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.
        split: As in `loaders.numpy.Loader`.
        **options: The fields of `loaders.options.TensorFlowOptions`, as keywords.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If an option's value is of another type.
        ValueError: If an option's value is not allowed, `as_supervised` lacks an input or a label, or `split` means no
            rows.
    """

    def __init__(self, root: str | os.PathLike[str], split: str, **options: Unpack[TensorFlowKeywords]) -> None:
        self._options: TensorFlowOptions
        chosen = TensorFlowOptions(**options)
        check_device(chosen.device)
        super().__init__(root, split, chosen)
        self._assembly = self._make_assembly()
        if chosen.remainder == "pad":
            _check_mask(self._source.view.manifest, chosen)
        if self._assembly.buckets:
            self._check_buckets(split)
        self._arrays: ArrayBatches | None = None
        self._reader: StreamReader | None = None
        self._whole = False
        self._built: tuple[tf.data.Dataset, tf.Variable] | None = None

    def _check_buckets(self, split: str) -> None:
        boundaries, deal = self._options.bucket_boundaries or (), self._cursor.deal
        if deal.streams > 1 or deal.remainder == "pad" or self._assembly.beside:
            raise ValueError(
                "bucket_boundaries expects one stream, no padded batches, and neither augment nor on_corrupt='skip'; "
                f"found streams={deal.streams}, remainder={deal.remainder!r}"
            )
        enough = (len(boundaries) + 1) * (deal.batch_size - 1) + 1
        if deal.remainder == "drop" and self.epochs is None and 0 < deal.rows < enough:
            # It might wait for a full batch for ever.
            raise ValueError(f"{split}: expected {enough} rows, so that a bucket fills a batch; found {deal.rows}")

    def iterate(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """An iteration that yields states too: pairs of the state after a batch, and the batch."""
        if self._assembly.buckets:
            raise ValueError(
                "bucket_boundaries: expected a loop over dataset(): a state does not hold what is in buckets"
            )
        span, iteration = self._cursor.begin()
        return self._run(span, iteration, self._placed(span))

    def dataset(self) -> tf.data.Dataset:
        """The pipeline from where the loader is.

        Returns:
            A data set whose next iterator begins where the loader is, and each further one where the one made before
            it ends. A loader has one pipeline: to call this again, `load_state_dict` or `advance` sets where its next
            iterator begins. Its `cardinality()` is the length of a whole iteration, which a resumed one may be below.
        """
        dataset, _ = self._pipeline()
        self._moved()
        return dataset

    def whole_dataset(self) -> tf.data.Dataset:
        """`dataset()` of a loader that is only iterated whole: steps that follow know the number of elements, too."""
        self._whole = True
        return self.dataset()

    def __getstate__(self) -> dict[str, Any]:
        # A pipeline cannot be pickled.
        return super().__getstate__() | {"_built": None, "_assembly": None, "_reader": None}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._assembly = self._make_assembly()

    def _make_assembly(self) -> Assembly:
        beside = [ROWS] * bool(self._options.augment) + [LOST] * (self._source.skipped is not None)
        return make_assembly(self._source.root, self._source.view.manifest, self._options, beside=beside)

    def _yields_arrays(self) -> bool:
        """Whether a loop is given tensors of the memory of arrays: they are what the pipeline yields."""
        options = self._options
        transforms = options.transform and self._source.view.manifest.transformed is not None
        ragged = options.ragged == "ragged" and any(feature.ragged for feature in self._assembly.features)
        return not (transforms or ragged or options.map_fn is not None or device_of(options.device))

    def _placed(self, span: IterationSpan) -> Iterator[tuple[Position, Any]]:
        """The batches of an iteration, each with the position after it."""
        if self._yields_arrays():
            self._arrays = self._arrays or ArrayBatches(self._source, self._cursor, self._options)
            for position, batch in self._arrays.ahead(span, prefetch=self._options.prefetch):
                yield position, tensors(batch)
        elif self._cursor.deal.advance(span.start, 0, end=span.end) is not None:
            dataset, variable = self._pipeline()
            pipeline.set_start(variable, span)
            for number, batch in enumerate(self._named(dataset)):
                yield position_after(self._cursor.deal, span.start, number), batch

    def _named(self, dataset: tf.data.Dataset) -> Iterator[Any]:
        """The elements of the pipeline; where a shard cannot be read, the error of it and not TensorFlow's."""
        assert self._reader is not None
        self._reader.errors.clear()
        try:
            yield from dataset
        except Exception:
            if self._reader.errors:
                raise self._reader.errors.pop() from None
            raise

    def _moved(self) -> None:
        if self._built is not None:
            pipeline.set_start(self._built[1], self._cursor.next())

    def _make_augmenter(self) -> Augmenter | None:
        if not self._options.augment:
            return None
        rows = sample_batch(self._source, self._assembly)
        return Augmenter(
            self._options.augment, seed=self._options.seed & hashing.MASK, deal=self._cursor.deal, sample=rows
        )

    def _pipeline(self) -> tuple[tf.data.Dataset, tf.Variable]:
        if self._built is None:
            options, deal = self._options, self._cursor.deal
            self._reader = StreamReader(self._batch_reader(), self._assembly, deal)
            variable = pipeline.start_variable()
            batches = pipeline.build(
                self._reader, variable, epochs=options.epochs, deal=deal, augmenter=self._make_augmenter()
            )
            # A whole iteration's, also where the next one resumes within an epoch.
            count = tf.constant(
                tf.data.UNKNOWN_CARDINALITY if self._assembly.buckets else pipeline.count_batches(options.epochs, deal),
                tf.int64,
            )
            if self._whole and not self._assembly.buckets:
                batches = batches.apply(tf.data.experimental.assert_cardinality(count))
            dataset = deliver(batches, map_fn=options.map_fn, prefetch=options.prefetch, device=options.device)
            self._built = dataset if self._whole else with_cardinality(dataset, count), variable
        return self._built

    def _batch_reader(self) -> BatchReader:
        rows = RowReader(self._source, [feature.name for feature in self._assembly.features])
        deal = self._cursor.deal
        if self._assembly.buckets:  # which drop what is left in them, and not the last rows of the epoch
            deal = dataclasses.replace(deal, remainder="keep")
        return BatchReader(
            rows,
            deal,
            self._cursor.identity,
            Buffers(),
            held=HeldRows(rows) if self._options.in_memory else None,
            ahead=self._options.prefetch != 0,
        )


def _check_mask(manifest: Manifest, options: TensorFlowOptions) -> None:
    features = manifest.transformed if options.transform and manifest.transformed is not None else manifest.features
    if any(feature.name == columns.MASK for feature in features):
        raise ValueError(f"{columns.MASK}: the mask of padded batches has this name; found a feature of it")


@shows(TensorFlowOptions)
def load(root: str | os.PathLike[str], split: str, **options: Unpack[TensorFlowKeywords]) -> tf.data.Dataset:
    """Makes a pipeline that yields every row of a split once an epoch: `loaders.Loader(...).dataset()`.

    The order is a function of the data set, the seed and the number of the epoch, and of nothing else. A data set
    that is iterated again goes on with the next epochs, so `model.fit(dataset, epochs=3)` sees three orders; one that
    is loaded again begins with epoch 0.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.
        split: The name of a split, or rows of it, such as "train[:10%]", as in `loaders.numpy.Loader`.
        **options: The fields of `loaders.options.TensorFlowOptions`, as keywords.

    Returns:
        Dicts of a tensor of shape [batch, *shape] for each feature's name, of the feature's dtype; or what
        `as_supervised` or `map_fn` makes of them. Its `cardinality()` is known unless there are buckets, and the batch
        axis of `element_spec` where every batch has one size.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If an option's value is of another type.
        ValueError: If an option's value is not allowed, `as_supervised` lacks an input or a label, or `split` means no
            rows.
    """
    return Loader(root, split, **options).whole_dataset()
