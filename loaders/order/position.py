"""Where a loader is: the rows that its loop has consumed, and where an iteration ends. Pure NumPy."""

from __future__ import annotations

import abc
import dataclasses
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from loaders.format.manifest import Manifest
from loaders.order import hashing, state
from loaders.order.epoch import Deal, Position, Remainder, ShardOptions
from loaders.order.splits import View
from loaders.storage.damage import Damage, Skipped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stretch:
    """What an iteration reads.

    Attributes:
        start: Where it begins.
        end: The epoch before which it ends; None for no end.
    """

    start: Position
    end: int | None


class Cursor:
    """A position that iterations move.

    The one after an iteration begins with the next epochs, also where the iteration was left; after `load` it goes on
    at the state, to where the iteration would have ended that the state is of.

    Args:
        deal: How rows are dealt to batches.
        identity: What the order depends on.
        epochs: How many epochs an iteration has; None for no end.

    Attributes:
        deal, identity, epochs: As given.
        position: What has been consumed.
    """

    def __init__(self, deal: Deal, identity: state.Identity, epochs: int | None) -> None:
        self.deal, self.identity, self.epochs = deal, identity, epochs
        self.position = Position()
        self._begin, self._resumes = 0, True
        self._iteration: object = None

    def dump(self) -> dict[str, Any]:
        """The state; see `loaders.order.state`."""
        return state.dump(self.identity, self.position)

    def load(self, value: Mapping[str, Any]) -> None:
        """Goes to where a state is.

        Raises:
            StateError: If it is of another data set or order.
        """
        self._go(state.load(value, self.identity))

    def next(self) -> Stretch:
        """What the next iteration reads."""
        begin = self._begin if self._resumes else self._begin + (self.epochs or 1)
        start = self.position if self._resumes else Position(epoch=begin)
        return Stretch(start=start, end=None if self.epochs is None else begin + self.epochs)

    def begin(self) -> tuple[Stretch, object]:
        """Begins an iteration.

        Returns:
            What it reads, and a token; what an older token's iteration tells is ignored.
        """
        stretch, self._iteration = self.next(), object()
        if not self._resumes:
            self._begin, self.position = stretch.start.epoch, stretch.start
        self._resumes = False
        return stretch, self._iteration

    def consume(self, position: Position, iteration: object) -> None:
        """Goes to the position after a batch of an iteration."""
        if iteration is self._iteration:
            self.position = position

    def close(self, stretch: Stretch, iteration: object) -> None:
        """Goes to the end of an iteration that is over."""
        if iteration is self._iteration and stretch.end is not None:
            self._go(Position(epoch=stretch.end))

    def advance(self, batches: int, *, batch_size: int | None = None) -> None:
        """Goes on by some batches, over the ends of epochs and iterations.

        Args:
            batches: How many.
            batch_size: Of which size; None for the loader's.

        Raises:
            ValueError: If there is no batch in an epoch, or their number is negative.
        """
        deal = self.deal if batch_size is None else dataclasses.replace(self.deal, batch_size=batch_size)
        if batches < 0 or (batches and not deal.batches()):
            raise ValueError(f"expected a number of batches that the loader has; found {batches}")
        if batches:
            self._go(after(deal, self.position, batches - 1))

    def over(self) -> bool:
        """Whether the iteration that the position is in has no batch left."""
        stretch = self.next()
        return self.deal.advance(stretch.start, 0, end=stretch.end) is None

    def skip_iteration(self) -> None:
        """Goes to where the next iteration begins."""
        self._go(Position(epoch=self._begin + (self.epochs or 1)))

    def __getstate__(self) -> dict[str, Any]:
        # A copy goes on where this one is, as if it had loaded the state.
        return self.__dict__ | {"_resumes": True, "_iteration": None}

    def _go(self, position: Position) -> None:
        self._begin = position.epoch if self.epochs is None else position.epoch // self.epochs * self.epochs
        self.position, self._resumes, self._iteration = position, True, None


class WithCursor(abc.ABC):
    """What the loaders that have a cursor have in common."""

    _cursor: Cursor
    _skipped: Skipped | None

    @abc.abstractmethod
    def iterate(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """An iteration that yields states too: pairs of the state after a batch, and the batch."""

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
        return self._cursor.position.epoch

    @property
    def epochs(self) -> int | None:
        """How many epochs an iteration has; None if it has no end."""
        return self._cursor.epochs

    @property
    def batch_size(self) -> int:
        """The rows of a batch of all hosts together."""
        return self._cursor.deal.batch_size

    @property
    def shard(self) -> ShardOptions:
        """Which host of how many this is."""
        return self._cursor.deal.shard

    @property
    def skipped(self) -> tuple[Damage, ...]:
        """The records that were left out so far, with `on_corrupt="skip"`; of all chunks that were read, also ahead."""
        return () if self._skipped is None else self._skipped.found()


def make_cursor(
    manifest: Manifest,
    view: View,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    epochs: int | None,
    drop_remainder: bool,
    remainder: Remainder,
    shard: ShardOptions,
    streams: int,
) -> Cursor:
    """The cursor of a loader over a view of a data set, by the options of `loaders.numpy.Loader` of the same names.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If an option's value is not allowed.
    """
    if drop_remainder and remainder == "pad":
        raise ValueError("remainder is 'keep' or 'drop' with drop_remainder; found 'pad'")
    epochs = None if epochs is None else operator.index(epochs)
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs is at least 1, or None for ever; found {epochs}")
    deal = Deal(
        rows=view.rows,
        batch_size=operator.index(batch_size),
        streams=operator.index(streams),
        shard=shard,
        remainder="drop" if drop_remainder else remainder,
    )
    identity = state.Identity(
        fingerprint=state.fingerprint(manifest),
        split=view.name,
        shuffle=shuffle,
        seed=operator.index(seed) & hashing.MASK if shuffle else 0,
        streams=deal.streams,
    )
    return Cursor(deal, identity, epochs)


def after(deal: Deal, start: Position, number: int) -> Position:
    """The position after batch `number`, from 0, of those from a position on."""
    # It is where that batch ends, not where the next one begins: these differ at the end of an epoch.
    at = deal.advance(start, number, end=None)
    assert at is not None
    return Position(epoch=at.epoch, rows=at.rows + deal.stream_batch)
