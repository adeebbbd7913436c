"""Reads batches as NumPy arrays, without TensorFlow, in the order of `loaders.load`, and resumes anywhere."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

from loaders.augment import augmentation
from loaders.buffers import Buffers
from loaders.format.spec import FeatureSpec
from loaders.options import Keywords, Options, check_shard, shows
from loaders.order import hashing
from loaders.order.epoch import Position, ShardOptions
from loaders.order.position import Cursor, IterationSpan
from loaders.reading import columns
from loaders.reading.loader import ResumableLoader
from loaders.reading.prefetch import AUTOTUNE, Prefetcher
from loaders.reading.row_reader import HeldRows, RowReader, Source
from loaders.reading.windows import BatchReader, RawBatch
from loaders.transform.forward import of_data_set

__all__ = ["Loader", "ShardOptions"]

# With steps of a millisecond and rows of 136 bytes, 2 batches ahead left a third of the time to waiting for windows, 16
# a tenth; more gained little and would be memory.
MOST_AHEAD = 16


@shows(Options)
class Loader(ResumableLoader):
    """Yields every row of a split once an epoch, as batches of NumPy arrays, and remembers where it is.

    The order is a function of the data set, the seed, the number of the epoch and `streams`, and of nothing else; with
    one stream it is that of `loaders.load`. A loader that is iterated again goes on with the next epochs, and one that
    was left counts as if it had ended; after `load_state_dict` it goes on at the state.

    It has no options that need TensorFlow: `map_fn`, `device`, `ragged`, and buckets. What a function of the user's own
    makes of raw features does, too: they come as they are with `transform=False` alone.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads. Local shards are memory-mapped,
            but for small ones.
        split: The name of a split, or rows of it as they are stored: "train[:10%]", "train[100:200]+train[-50:]",
            "train+test". An epoch then has these rows alone. docs/reference/loading.md shows all forms.
        **options: The fields of `loaders.options.Options`, as keywords.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If an option's value is of another type.
        ValueError: If an option's value is not allowed, or `split` means no rows.
    """

    def __init__(self, root: str | os.PathLike[str], split: str, **options: Unpack[Keywords]) -> None:
        chosen = Options(**options)
        check_shard(chosen.shard)
        super().__init__(root, split, chosen)
        self._arrays = ArrayBatches(self._source, self._cursor, chosen)

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """The features of a batch, sorted by name."""
        return self._arrays.features

    def next_epoch(self, epoch: int) -> int:
        """The first epoch of the iteration after the one that has an epoch."""
        return epoch + 1 if self.epochs is None else (epoch // self.epochs + 1) * self.epochs

    def iterate(
        self, *, first: int = 0, stride: int = 1, prefetch: int | None = None
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        """An iteration that yields states too, for those who read ahead.

        Args:
            first: The number of the first batch to yield, counted from where the loader is.
            stride: How many batches to go on from one to the next.
            prefetch: As in the loader; None for the loader's.

        Returns:
            Pairs of the state after a batch, and the batch.
        """
        check_shard(self._options.shard)  # the processes may have met since the loader was made
        span, iteration = self._cursor.begin()
        depth = self._options.prefetch if prefetch is None else prefetch
        return self._run(span, iteration, self._arrays.ahead(span, first, stride, prefetch=depth))


class ArrayBatches:
    """The batches of a loader from any position on, as NumPy arrays. It can be pickled.

    Attributes:
        features: The features of a batch, sorted by name.

    Raises:
        ManifestError: If features are to be transformed that a function of the user's own transforms.
        ValueError: If the features do not fit the options.
    """

    def __init__(self, source: Source, cursor: Cursor, options: Options) -> None:
        self._deal, self._identity, self._options = cursor.deal, cursor.identity, options
        manifest = source.view.manifest
        transforms = options.transform and manifest.transformed is not None
        self._transform = of_data_set(source.root, manifest, as_stored=True) if transforms else None
        features = self._transform.features if self._transform else manifest.features
        features = columns.choose(features, options.features)
        padded = options.remainder == "pad"
        columns.check_names(features, mask=padded)
        self._arrange = columns.Arrangement(features, supervised=options.as_supervised)
        self.features = self._arrange.features
        names = tuple(feature.name for feature in self.features)
        if self._transform:
            self._transform = self._transform.only(names)
            names = self._transform.inputs
        self._rows = RowReader(source, names)
        self._buffers = Buffers()
        self._held: HeldRows | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}

    def ahead(
        self, span: IterationSpan, first: int = 0, stride: int = 1, *, prefetch: int
    ) -> Iterator[tuple[Position, Any]]:
        """The batches of an iteration, some of which a thread makes before they are asked for; see `Loader.iterate`.

        Returns:
            Pairs of the position after a batch, and the batch.
        """
        depth = self._depth(prefetch)
        batches = self._batches(span, first, stride, ahead=depth > 0)
        return Prefetcher(batches, depth=depth) if depth else batches

    def _depth(self, prefetch: int) -> int:
        if prefetch != AUTOTUNE:
            return prefetch
        own = self._deal.stream_batch * len(self._deal.own)
        return min(MOST_AHEAD, max(1, self._identity.window_rows // own))

    def _batches(self, span: IterationSpan, first: int, stride: int, *, ahead: bool) -> Iterator[tuple[Position, Any]]:
        deal = self._deal
        if self._options.in_memory and self._held is None:
            self._held = HeldRows(self._rows)
        reader = BatchReader(self._rows, deal, self._identity, self._buffers, held=self._held, ahead=ahead)
        number = first
        while (at := deal.advance(span.start, number, end=span.end)) is not None:
            yield Position(epoch=at.epoch, rows=at.rows + deal.stream_batch), self._finish(reader.batch(at))
            number += stride

    def _finish(self, raw: RawBatch) -> Any:
        # A host that has no row in a padded batch needs the shapes that one would have.
        shards = self._rows.shards
        if not len(raw.rows):
            zeros = shards.empty(1, np.zeros)
            raw = dataclasses.replace(raw, columns=zeros, rows=np.zeros(1, np.int64), groups=(1,))
        batch = columns.decode(raw.columns, shards.features)
        batch = self._transform(batch) if self._transform else batch
        batch = augmentation.apply(
            self._options.augment,
            batch,
            seed=self._options.seed & hashing.MASK,
            epoch=raw.epoch,
            rows=raw.rows,
            groups=raw.groups,
        )
        if raw.mask is not None and not raw.mask.all():
            batch = {name: _padded(values, raw.mask) for name, values in batch.items()}
        batch = self._arrange(batch)
        return batch if raw.mask is None else columns.with_mask(batch, raw.mask)


def _padded(values: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values at the places where the mask is True, and zeros, or empty strings, at the others."""
    filled = np.full((len(mask), *values.shape[1:]), b"" if values.dtype == object else 0, dtype=values.dtype)
    filled[mask] = values[: int(mask.sum())]
    return filled
