"""Reads batches as NumPy arrays, without TensorFlow, in the order of `loaders.load`, and resumes anywhere."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from loaders.augment import augmentation
from loaders.augment.augmentation import Augmentation
from loaders.format.spec import FeatureSpec
from loaders.order import hashing, splits, state
from loaders.order.chunks import window_rows
from loaders.order.epoch import Position, Remainder, ShardOptions
from loaders.order.position import IterationSpan, make_cursor
from loaders.order.splits import ViewChunks
from loaders.reading import columns
from loaders.reading.buffers import Buffers
from loaders.reading.loader import ResumableLoader
from loaders.reading.prefetch import AUTOTUNE, Prefetcher
from loaders.reading.windows import BatchReader, RawBatch, RowReader
from loaders.storage import damage
from loaders.storage.damage import OnCorrupt
from loaders.storage.files import read_manifest
from loaders.storage.shards import Shards
from loaders.storage.store import make_cache

__all__ = ["Loader", "ShardOptions"]

# With steps of a millisecond and rows of 136 bytes, 2 batches ahead left a third of the time to waiting for windows, 16
# a tenth; more gained little and would be memory.
MOST_AHEAD = 16


class Loader(ResumableLoader):
    """Yields every row of a split once an epoch, as batches of NumPy arrays, and remembers where it is.

    The order is a function of the data set, the seed, the number of the epoch and `streams`, and of nothing else; with
    one stream it is that of `loaders.load`. A loader that is iterated again goes on with the next epochs, and one that
    was left counts as if it had ended; after `load_state_dict` it goes on at the state.

    Features that the shards hold as they are in the sources (`store: raw`) come as they are: the transform is a
    TensorFlow graph.

    Args:
        root: The directory of a finished build. Local shards are memory-mapped, but for small ones; of other file
            systems, which TensorFlow reads, `cache_dir` keeps copies.
        split: The name of a split, or rows of it as they are stored: "train[:10%]", "train[100:200]+train[-50:]",
            "train+test". An epoch then has these rows alone. docs/loading.md shows all forms.
        batch_size: The rows of a batch of all hosts together; a multiple of `streams`. No batch has rows of two epochs.
        shuffle: Whether each epoch has its own order; otherwise rows come as they are stored.
        seed: The seed of the order.
        epochs: How many epochs one iteration has; None has no end.
        drop_remainder: The short form of `remainder="drop"`.
        remainder: What becomes of an epoch's last rows where they do not fill a batch. "keep" yields them as a smaller
            batch; hosts may then differ in their last batch, or whether they have one. "drop" leaves them out. "pad"
            fills the batch up with zeros, and every batch has `mask`, a bool array of shape [batch] that is False for
            what was filled up; as_supervised has it last. With "drop" and "pad" every host has as many batches, of one
            size.
        shard: Which host of how many this is. The hosts' batches are together the batch that a single host has.
        streams: Into how many streams an epoch is cut, a multiple of the number of hosts. A batch has as many rows of
            each. A state can be loaded with any number of hosts that divides it.
        as_supervised: As in `loaders.load`.
        features: The names of the features to read; None for all.
        augment: Functions that change batches, one after the other, such as those of `loaders.augment`: each takes a
            dict of arrays and a `loaders.augment.Random` and returns a dict. They see no row that pads a batch.
        prefetch: How many batches a thread keeps ready; `AUTOTUNE` (-1) takes those of a window, 16 at most, and 0 has
            no thread. No batch and no state depends on it.
        on_corrupt: What becomes of a record that is damaged, or whose shard is missing: "error" raises a `ShardError`;
            "skip" leaves its rows out, which `skipped` tells, and warns. It needs `remainder="pad"`: the rows are
            False in the batch's mask, and all others come in the batches in which they come anyway.
        cache_dir: A directory for copies of the shards, each of which is raw when the shard is first read. Processes
            may share it.
        cache_bytes: How many bytes the copies may have; None for no limit. What does not fit is read where it is.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If a number is not an integer.
        ValueError: If an option's value is not allowed, or `split` means no rows.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        *,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        epochs: int | None = 1,
        drop_remainder: bool = False,
        remainder: Remainder = "keep",
        shard: ShardOptions = ShardOptions(),  # noqa: B008 - it is frozen
        streams: int = 1,
        as_supervised: bool = False,
        features: Sequence[str] | None = None,
        augment: Sequence[Augmentation] = (),
        prefetch: int = AUTOTUNE,
        on_corrupt: OnCorrupt = "error",
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        path, manifest = os.fspath(root), read_manifest(root)
        view = splits.resolve(manifest, split)
        self._cursor = make_cursor(
            manifest,
            view,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            epochs=epochs,
            drop_remainder=drop_remainder,
            remainder=remainder,
            shard=shard,
            streams=streams,
        )
        chosen = columns.choose(manifest.features, features)
        columns.check_names(chosen, mask=remainder == "pad")
        self._arrange: ToSupervised | None = ToSupervised(chosen, mask=remainder == "pad") if as_supervised else None
        names = self._arrange.needed if self._arrange else tuple(feature.name for feature in chosen)
        self._skipped = damage.make_skipped(on_corrupt, remainder=self._cursor.deal.remainder)
        self._shards = Shards(
            path,
            view.manifest,
            view.split,
            names=names,
            cache=make_cache(cache_dir, cache_bytes),
            data_set=self._cursor.identity.fingerprint,
        )
        self._chunks = ViewChunks.of(self._shards.chunks, view.ranges)
        self._window_rows = window_rows(view.manifest, view.split)
        self._buffers = Buffers()
        self._augment, self._augment_seed = tuple(augment), operator.index(seed) & hashing.MASK
        if operator.index(prefetch) < AUTOTUNE:
            raise ValueError(f"prefetch is a number of batches, or AUTOTUNE (-1); found {prefetch}")
        self._prefetch = prefetch

    def __getstate__(self) -> dict[str, Any]:
        # A copy goes on where this one is, and then its own way.
        return self.__dict__ | {"_cursor": copy.copy(self._cursor)}

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
        span, iteration = self._cursor.begin()
        batches = self._batches(span, first, stride)
        depth = self._depth(self._prefetch if prefetch is None else prefetch)
        return self._run(span, iteration, Prefetcher(batches, depth=depth) if depth else batches)

    def _depth(self, prefetch: int) -> int:
        if prefetch != AUTOTUNE:
            return prefetch
        own = self._cursor.deal.stream_batch * len(self._cursor.deal.own)
        return min(MOST_AHEAD, max(1, self._window_rows // own))

    def _run(
        self, span: IterationSpan, iteration: object, batches: Iterator[tuple[Position, Any]]
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        for after, batch in batches:
            self._cursor.consume(after, iteration)
            yield state.dump(self._cursor.identity, after), batch
        self._cursor.close(span, iteration)

    def _batches(self, span: IterationSpan, first: int, stride: int) -> Iterator[tuple[Position, Any]]:
        """The batches of an iteration, each with the position after it; a thread may run it."""
        deal, identity = self._cursor.deal, self._cursor.identity
        rows = RowReader(self._shards, self._skipped)
        reader = BatchReader(rows, self._chunks, deal, self._window_rows, identity, self._buffers)
        number = first
        while (at := deal.advance(span.start, number, end=span.end)) is not None:
            yield Position(epoch=at.epoch, rows=at.rows + deal.stream_batch), self._finish(reader.batch(at))
            number += stride

    def _finish(self, raw: RawBatch) -> Any:
        # A host that has no row in a padded batch needs the shapes that one would have.
        raw = raw if len(raw.rows) else raw.of_zeros(self._shards.empty(1))
        batch = augmentation.apply(
            self._augment,
            columns.decode(raw.columns, self._shards.features),
            seed=self._augment_seed,
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
