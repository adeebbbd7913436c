"""Reads batches as NumPy arrays, without TensorFlow, in the order of `loaders.load`, and resumes anywhere."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from loaders import elements, info, order, state
from loaders.chunks import window_rows
from loaders.mapped import Shards
from loaders.records import Columns
from loaders.rows import local_root
from loaders.spec import FeatureSpec
from loaders.streams import Deal, Position, Remainder, ShardOptions, window
from loaders.streams import Sequence as RowSequence

__all__ = ["Loader", "ShardOptions"]


class Loader:
    """Yields every row of a split once an epoch, as batches of NumPy arrays, and remembers where it is.

    The order is a function of the data set, the seed, the number of the epoch and `streams`, and of nothing else; with
    one stream it is that of `loaders.load`. A loader that is iterated again goes on with the next epochs, and one that
    was left counts as if it had ended; after `load_state_dict` it goes on at the state.

    Features that the shards hold as they are in the sources (`store: raw`) come as they are: the transform is a
    TensorFlow graph.

    Args:
        root: The directory of a finished build, a local one: shards are memory-mapped.
        split: The name of a split.
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

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If a number is not an integer.
        ValueError: If an option's value is not allowed, or `root` is not a local directory.
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
    ) -> None:
        path = local_root(root)
        manifest = info.read(path).manifest
        rows = manifest.rows(split)
        if drop_remainder and remainder == "pad":
            raise ValueError("remainder is 'keep' or 'drop' with drop_remainder; found 'pad'")
        self._deal = Deal(
            rows=rows,
            batch_size=operator.index(batch_size),
            streams=operator.index(streams),
            shard=shard,
            remainder="drop" if drop_remainder else remainder,
        )
        if epochs is not None and operator.index(epochs) < 1:
            raise ValueError(f"epochs is at least 1, or None for ever; found {epochs}")
        self._epochs = epochs
        chosen = _choose(manifest.features, features)
        elements.check_names(chosen, mask=remainder == "pad")
        self._arrange: _Arrange | None = _Arrange(chosen, mask=remainder == "pad") if as_supervised else None
        names = self._arrange.needed if self._arrange else tuple(feature.name for feature in chosen)
        self._shards = Shards(path, manifest, split, names=names)
        self._window_rows = window_rows(manifest, split)
        self._identity = state.Identity(
            fingerprint=state.fingerprint(manifest),
            split=split,
            shuffle=shuffle,
            seed=operator.index(seed) & order.MASK if shuffle else 0,
            streams=self._deal.streams,
        )
        self._begin, self._position, self._resumes = 0, Position(), True
        self._iteration: object = None

    def __iter__(self) -> Iterator[Any]:
        return (batch for _, batch in self.iterate())

    def __len__(self) -> int:
        """How many batches one iteration has.

        Raises:
            TypeError: If it has no end.
        """
        if self._epochs is None:
            raise TypeError("a loader with epochs=None has no length")
        return self._epochs * self._deal.batches()

    @property
    def epoch(self) -> int:
        """How many epochs are over: the number of the one that goes on, or that is next."""
        return self._position.epoch

    @property
    def shard(self) -> ShardOptions:
        """Which host of how many this is."""
        return self._deal.shard

    def state_dict(self) -> dict[str, Any]:
        """Which rows are consumed: those of all batches that the last iterator has yielded.

        Returns:
            JSON values, under 1 KB, the same on every host. They hold no number of hosts and no batch size: both may
            be others when the state is loaded, and no row is lost or repeated.
        """
        return state.dump(self._identity, self._position)

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Lets the next iteration go on with the batch after the state. What is consumed is not read.

        Args:
            value: What `state_dict` gave, of this data set, split, shuffle, seed and streams.

        Raises:
            StateError: If it is of another data set or order; it is a `ValueError`.
        """
        position = state.load(value, self._identity)
        self._begin = position.epoch if self._epochs is None else position.epoch // self._epochs * self._epochs
        self._position, self._resumes, self._iteration = position, True, None

    def __getstate__(self) -> dict[str, Any]:
        # The copy goes on where this one is, as if it had loaded the state.
        return self.__dict__ | {"_resumes": True, "_iteration": None}

    def next_epoch(self, epoch: int) -> int:
        """The first epoch of the iteration after the one that has an epoch."""
        return epoch + 1 if self._epochs is None else (epoch // self._epochs + 1) * self._epochs

    def iterate(self, *, first: int = 0, stride: int = 1) -> Iterator[tuple[dict[str, Any], Any]]:
        """An iteration that yields states too, for those who read ahead.

        Args:
            first: The number of the first batch to yield, counted from where the loader is.
            stride: How many batches to go on from one to the next.

        Returns:
            Pairs of the state after a batch, and the batch.
        """
        if not self._resumes:
            self._begin += self._epochs or 1
            self._position = Position(epoch=self._begin)
        self._resumes = False
        self._iteration = iteration = object()
        return self._run(iteration, self._position, first, stride)

    def _run(self, iteration: object, start: Position, first: int, stride: int) -> Iterator[tuple[dict[str, Any], Any]]:
        end = None if self._epochs is None else self._begin + self._epochs
        reader = _Reader(self._shards, self._deal, self._window_rows, self._identity)
        number = first
        while (at := self._deal.advance(start, number, end=end)) is not None:
            batch = self._finish(reader.batch(at))
            after = Position(epoch=at.epoch, rows=at.rows + self._deal.stream_batch)
            if iteration is self._iteration:
                self._position = after
            yield state.dump(self._identity, after), batch
            number += stride
        if iteration is self._iteration and end is not None:
            self._begin, self._position, self._resumes = end, Position(epoch=end), True

    def _finish(self, columns: Columns) -> Any:
        mask = columns.pop(elements.MASK, None) if self._deal.remainder == "pad" else None
        batch = elements.decode(columns, self._shards.features)
        if mask is not None:
            batch[elements.MASK] = mask
        return self._arrange(batch) if self._arrange else batch


class _Arrange:
    """Makes `(inputs, labels)` of a batch; an object and no closure, so that a loader can be pickled."""

    def __init__(self, features: Sequence[FeatureSpec], *, mask: bool) -> None:
        self._features, self._mask = features, mask
        self.needed, _ = self._roles()

    def _roles(self) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
        lengths = {feature.name for feature in self._features if feature.ragged}
        return elements.roles(self._features, lengths=lengths)

    def __call__(self, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        _, arrange = self._roles()
        return (*arrange(batch), batch[elements.MASK]) if self._mask else arrange(batch)


def _choose(features: Sequence[FeatureSpec], names: Sequence[str] | None) -> tuple[FeatureSpec, ...]:
    if names is None:
        return tuple(features)
    unknown = set(names) - {feature.name for feature in features}
    if unknown or not names or isinstance(names, str):
        known = ", ".join(feature.name for feature in features)
        raise ValueError(f"features is a list of names of {known}; found {names!r}")
    return tuple(feature for feature in features if feature.name in names)


class _Reader:
    """Reads the batches of one iteration; it holds a window of each of the host's streams."""

    def __init__(self, shards: Shards, deal: Deal, rows: int, identity: state.Identity) -> None:
        self._shards, self._deal = shards, deal
        self._rows = rows
        self._seed = identity.seed if identity.shuffle else None
        self._epoch, self._sequence = -1, RowSequence(shards.chunks, None)
        self._windows = {stream: _Window() for stream in deal.own}

    def batch(self, at: Position) -> Columns:
        """The columns of the batch at a position, and the mask of a padded one."""
        if at.epoch != self._epoch:
            key = None if self._seed is None else order.derive(self._seed, order.CHUNKS, at.epoch)
            self._epoch, self._sequence = at.epoch, RowSequence(self._shards.chunks, key)
        deal, pieces, mask = self._deal, [], []
        for stream in deal.own:
            first, end = deal.bounds(stream)
            stop = min(at.rows + deal.stream_batch, end - first)
            pieces += self._take(stream, at.rows, stop)
            if deal.remainder == "pad":
                filled = at.rows + deal.stream_batch - max(stop, at.rows)
                mask.append(np.arange(deal.stream_batch) < deal.stream_batch - filled)
                if filled:
                    pieces.append(self._zeros(filled))
        names = [spec.name for spec in self._shards.features]
        columns = pieces[0] if len(pieces) == 1 else {n: np.concatenate([p[n] for p in pieces]) for n in names}
        return columns | {elements.MASK: np.concatenate(mask)} if mask else columns

    def _take(self, stream: int, start: int, stop: int) -> list[Columns]:
        """The rows from `start` up to `stop` of a stream's order."""
        size, pieces = max(1, self._rows // self._deal.streams), []
        while start < stop:
            number = start // size
            end = min(stop, (number + 1) * size)
            found = self._window(stream, number, start - number * size)
            places = found.places[start - number * size : end - number * size]
            pieces.append({name: values.take(places, axis=0) for name, values in found.columns.items()})
            start = end
        return pieces

    def _window(self, stream: int, number: int, start: int) -> _Window:
        """A window of a stream, of which the order's places from `start` on are needed."""
        held = self._windows[stream]
        if held.name == (self._epoch, number):
            return held
        found = window(self._deal, stream, number, rows=self._rows, seed=self._seed, epoch=self._epoch)
        first, end = self._deal.bounds(stream)
        if not held.columns:
            # One place for all windows: fresh memory costs as much as filling it.
            held.columns = self._shards.empty(min(end - first, max(1, self._rows // self._deal.streams)))
        # In the order of a permutation, any row of the window may come next.
        at = start if self._seed is None else 0
        held.name = (-1, -1)
        for run in self._sequence.runs(found.start + at, found.stop):
            self._shards.read(run.shard, run.start, run.stop, held.columns, at)
            at += run.stop - run.start
        held.name, held.places = (self._epoch, number), found.places
        return held

    def _zeros(self, rows: int) -> Columns:
        columns = self._shards.empty(rows)
        for spec in self._shards.features:
            if not spec.variable:
                columns[spec.name][...] = 0
        return columns


class _Window:
    """A window as it is held: its epoch and number, its rows as they were read, and their places in the order."""

    def __init__(self) -> None:
        self.name = (-1, -1)
        self.columns: Columns = {}
        self.places: np.ndarray[Any, np.dtype[np.int64]] = np.arange(0)
