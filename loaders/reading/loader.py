"""What the loaders that know where they are have in common: their rows, the numbers of an iteration, and the state."""

from __future__ import annotations

import abc
import copy
import dataclasses
import operator
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loaders.format.manifest import ManifestError
from loaders.order import split_slices, state
from loaders.order.epoch import BatchShare, Position, ShardOptions
from loaders.order.position import IterationSpan, make_cursor
from loaders.reading.filtered_rows import rows_where
from loaders.reading.row_reader import Source
from loaders.storage.damaged_records import DamagedRecord, SkippedRecords
from loaders.storage.files import read_manifest
from loaders.storage.remote import is_remote
from loaders.storage.store import make_cache

if TYPE_CHECKING:
    from loaders.options import Options


class ResumableLoader(abc.ABC):
    """A loader with a cursor, which says what its loop has consumed."""

    def __init__(self, root: str | os.PathLike[str], split: str, options: Options) -> None:
        path, manifest = os.fspath(root), read_manifest(root)
        if options.shuffle == "global" and is_remote(path) and options.cache_dir is None and not options.in_memory:
            raise ValueError(
                "shuffle='global' reads rows one by one: expected a local data set, a cache_dir, or in_memory=True; "
                f"found {path}"
            )
        try:
            view = split_slices.resolve(manifest, split)
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from error
        source = Source(
            root=path,
            view=view,
            fingerprint=state.fingerprint(manifest),
            cache=make_cache(options.cache_dir, options.cache_bytes),
            skipped=SkippedRecords() if options.on_corrupt == "skip" else None,
        )
        self._source = dataclasses.replace(source, view=rows_where(source, options.where))
        self._options, self._cursor = options, make_cursor(self._source.view, source.fingerprint, options)

    def __getstate__(self) -> dict[str, Any]:
        # A copy goes on where this one is, and then its own way.
        return self.__dict__ | {"_cursor": copy.copy(self._cursor)}

    @abc.abstractmethod
    def iterate(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """An iteration that yields states too: pairs of the state after a batch, and the batch."""

    def _run(
        self, span: IterationSpan, iteration: object, batches: Iterator[tuple[Position, Any]]
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        """What `iterate` gives, of batches with the positions after them."""
        for after, batch in batches:
            self._cursor.consume(after, iteration)
            yield state.dump(self._cursor.identity, after), batch
        self._cursor.close(span, iteration)

    def __iter__(self) -> Iterator[Any]:
        return (batch for _, batch in self.iterate())

    def __len__(self) -> int:
        """How many batches one iteration has.

        Raises:
            TypeError: If it has no end.
        """
        if self.epochs is None:
            raise TypeError("a loader with epochs=None has no length")
        return self.epochs * self._cursor.deal.batches()

    @property
    def epoch(self) -> int:
        """How many epochs are over: the number of the one that goes on, or that is next."""
        return self._cursor.epoch

    @property
    def epochs(self) -> int | None:
        """How many epochs an iteration has; None if it has no end."""
        return self._cursor.epochs

    @property
    def deal(self) -> BatchShare:
        """How the rows of an epoch are dealt to batches."""
        return self._cursor.deal

    @property
    def batch_size(self) -> int:
        """The rows of a batch of all hosts together."""
        return self._cursor.deal.batch_size

    @property
    def shard(self) -> ShardOptions:
        """Which host of how many this is."""
        return self._cursor.deal.shard

    @property
    def skipped(self) -> tuple[DamagedRecord, ...]:
        """The records that were left out so far, with `on_corrupt="skip"`; of all chunks that were read, also ahead."""
        return () if self._source.skipped is None else self._source.skipped.found()

    def state_dict(self) -> dict[str, Any]:
        """Which rows are consumed: those of all batches that the last iterator of this loader has yielded.

        Batches that were made ahead, or copied to a device, do not count. Iterators of `dataset()` are not counted;
        `advance` tells what a loop over one has consumed.

        Returns:
            JSON values, under 1 KB, the same on every host. They hold no number of hosts and no batch size: both may
            be others when the state is loaded, and no row is lost or repeated.
        """
        return self._cursor.dump()

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Lets the next iteration, or the next iterator of `dataset()`, go on with the batch after the state.

        What is consumed is not read.

        Args:
            value: What `state_dict` of `loaders.Loader` or `loaders.numpy.Loader` gave, of this data set, split,
                shuffle, seed and streams.

        Raises:
            StateError: If it is of another data set or order; it is a `ValueError`.
        """
        self._cursor.load(value)
        self._moved()

    def advance(self, batches: int, *, batch_size: int | None = None) -> None:
        """Counts batches as consumed, such as those that a loop took from `dataset()`.

        The next iteration, or the next iterator of `dataset()`, begins after them. Iterators that go on are not
        touched.

        Args:
            batches: How many batches of this host.
            batch_size: The rows that they had; None for the loader's.

        Raises:
            ValueError: If `batches` is negative, or an epoch has no batch.
        """
        self._cursor.advance(operator.index(batches), batch_size=batch_size)
        self._moved()

    def is_over(self) -> bool:
        """Whether the iteration in which the loader is has no batch left."""
        return self._cursor.is_over()

    def skip_iteration(self) -> None:
        """Goes to the first batch of the iteration after the one in which the loader is."""
        self._cursor.skip_iteration()
        self._moved()

    def _moved(self) -> None:  # noqa: B027 - not every loader has a pipeline
        """Is called when the cursor was moved; a loader that has a pipeline lets it begin there."""
