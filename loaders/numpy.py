"""Reads batches as NumPy arrays, without TensorFlow, in the order of `loaders.load`, and resumes anywhere."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from loaders.augment import augmentation
from loaders.buffers import Buffers
from loaders.format.spec import FeatureSpec
from loaders.options import Keywords, Options, check_local, check_shard, shows
from loaders.order import hashing, split_slices, state
from loaders.order.epoch import Position, ShardOptions
from loaders.order.position import Cursor, IterationSpan, make_cursor
from loaders.order.split_slices import View, ViewChunks
from loaders.reading import columns
from loaders.reading.filtered_rows import rows_where
from loaders.reading.loader import ResumableLoader
from loaders.reading.prefetch import AUTOTUNE, Prefetcher
from loaders.reading.row_reader import HeldRows, RowReader
from loaders.reading.windows import BatchReader, RawBatch
from loaders.storage import damaged_records
from loaders.storage.damaged_records import SkippedRecords
from loaders.storage.files import read_manifest
from loaders.storage.shards import Shards
from loaders.storage.store import make_cache
from loaders.transform.forward import of_data_set

if TYPE_CHECKING:
    from loaders.storage.cache import Cache

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
        self._options = chosen = Options(**options)
        check_shard(chosen.shard)
        path, manifest = os.fspath(root), read_manifest(root)
        check_local(path, chosen)
        cache = make_cache(chosen.cache_dir, chosen.cache_bytes)
        self._skipped = damaged_records.make_skipped(chosen.on_corrupt, remainder=chosen.remainder)
        view = split_slices.resolve(manifest, split)
        view = rows_where(path, manifest, view, chosen.where, cache=cache, skipped=self._skipped)
        self._cursor = make_cursor(manifest, view, **chosen.of_order())
        self._arrays = ArrayBatches(path, view, self._cursor, chosen, cache=cache, skipped=self._skipped)

    def __getstate__(self) -> dict[str, Any]:
        # A copy goes on where this one is, and then its own way.
        return self.__dict__ | {"_cursor": copy.copy(self._cursor)}

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

    def _run(
        self, span: IterationSpan, iteration: object, batches: Iterator[tuple[Position, Any]]
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        for after, batch in batches:
            self._cursor.consume(after, iteration)
            yield state.dump(self._cursor.identity, after), batch
        self._cursor.close(span, iteration)


class ArrayBatches:
    """The batches of a loader from any position on, as NumPy arrays. It can be pickled.

    Args:
        root: Where the data set is.
        view: The rows.
        cursor: What the order depends on.
        options: What a batch has.
        cache: Where copies of the shards are kept, or None.
        skipped: Where rows are noted that cannot be read; None if they are an error.

    Attributes:
        features: The features of a batch, sorted by name.

    Raises:
        ManifestError: If features are to be transformed that a function of the user's own transforms.
        ValueError: If the features do not fit the options.
    """

    def __init__(
        self,
        root: str,
        view: View,
        cursor: Cursor,
        options: Options,
        *,
        cache: Cache | None,
        skipped: SkippedRecords | None,
    ) -> None:
        self._view, self._deal, self._identity = view, cursor.deal, cursor.identity
        self._options, self._skipped = options, skipped
        transforms = options.transform and view.manifest.transformed is not None
        self._transform = of_data_set(root, view.manifest, as_stored=True) if transforms else None
        features = self._transform.features if self._transform else view.manifest.features
        features = columns.choose(features, options.features)
        padded = options.remainder == "pad"
        columns.check_names(features, mask=padded)
        self._arrange = ToSupervised(features, mask=padded) if options.as_supervised else None
        names = self._arrange.needed if self._arrange else tuple(feature.name for feature in features)
        self.features = tuple(feature for feature in features if feature.name in names)
        if self._transform:
            self._transform = self._transform.only(names)
            names = self._transform.inputs
        self._shards = Shards(
            root, view.manifest, view.split, names=names, cache=cache, data_set=cursor.identity.fingerprint
        )
        self._chunks = ViewChunks.of(self._shards.chunks, view.ranges)
        self._buffers = Buffers()
        self._held: HeldRows | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}

    def ahead(
        self, span: IterationSpan, first: int = 0, stride: int = 1, *, prefetch: int
    ) -> Iterator[tuple[Position, Any]]:
        """The batches of an iteration, some of which a thread makes before they are asked for.

        Args:
            span: What it reads.
            first: The number of the first batch.
            stride: How many batches to go on from one to the next.
            prefetch: As in the loader.

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
        deal, rows = self._deal, RowReader(self._shards, self._skipped)
        if self._options.in_memory and self._held is None:
            self._held = HeldRows(rows, self._view, self._chunks)
        reader = BatchReader(
            rows, self._view, self._chunks, deal, self._identity, self._buffers, held=self._held, ahead=ahead
        )
        number = first
        while (at := deal.advance(span.start, number, end=span.end)) is not None:
            yield Position(epoch=at.epoch, rows=at.rows + deal.stream_batch), self._finish(reader.batch(at))
            number += stride

    def _finish(self, raw: RawBatch) -> Any:
        # A host that has no row in a padded batch needs the shapes that one would have.
        raw = raw if len(raw.rows) else raw.of_zeros(self._shards.empty(1))
        batch = columns.decode(raw.columns, self._shards.features)
        batch = self._transform(batch) if self._transform else batch
        batch = augmentation.apply(
            self._options.augment,
            batch,
            seed=self._options.seed & hashing.MASK,
            epoch=raw.epoch,
            rows=raw.rows,
            groups=raw.groups,
        )
        if raw.mask is not None:
            if not raw.mask.all():
                batch = {name: _padded(values, raw.mask) for name, values in batch.items()}
            batch[columns.MASK] = raw.mask
        return self._arrange(batch) if self._arrange else batch


def _padded(values: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values at the places where the mask is True, and zeros, or empty strings, at the others."""
    filled = np.full((len(mask), *values.shape[1:]), b"" if values.dtype == object else 0, dtype=values.dtype)
    filled[mask] = values[: int(mask.sum())]
    return filled


class ToSupervised:
    """Makes `(inputs, labels)` of a batch; an object and no closure, so that a loader can be pickled.

    Args:
        features: The features to choose from; `needed` has the names of those that have a role in it.
        mask: Whether the mask of a padded batch comes last.

    Raises:
        ValueError: If there is no input or no label.
    """

    def __init__(self, features: Sequence[FeatureSpec], *, mask: bool) -> None:
        self._features, self._mask = features, mask
        self.needed, _ = self._roles()

    def _roles(self) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
        lengths = {feature.name for feature in self._features if feature.ragged}
        return columns.roles(self._features, lengths=lengths)

    def __call__(self, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        _, arrange = self._roles()
        return (*arrange(batch), batch[columns.MASK]) if self._mask else arrange(batch)
