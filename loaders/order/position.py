"""Where a loader is: the rows that its loop has consumed, and where an iteration ends. Pure NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loaders.order import hashing, state
from loaders.order.chunks import chunk_records, window_rows
from loaders.order.epoch import BatchShare, Position, ShardOptions
from loaders.order.split_slices import View

if TYPE_CHECKING:
    from loaders.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class IterationSpan:
    """What an iteration reads: from a position to before an epoch, or without end for None."""

    start: Position
    end: int | None


class Cursor:
    """A position that iterations move.

    The one after an iteration begins with the next epochs, also where the iteration was left; after `load` it goes on
    at the state, to where the iteration would have ended that the state is of.

    An iteration of several epochs is a whole training: a state after it has nothing left, so that a program that had
    ended trains no more when it is started again. One of a single epoch is a step of a loop over epochs: a state after
    it is at the next one.

    Attributes:
        deal: How rows are dealt to batches.
        identity: What the order depends on.
        epochs: How many epochs an iteration has; None for no end.
        position: What has been consumed.
    """

    def __init__(self, deal: BatchShare, identity: state.Identity, epochs: int | None) -> None:
        self.deal, self.identity, self.epochs = deal, identity, epochs
        self.position = Position()
        self._begin, self._resumes, self._closed = 0, True, False
        self._iteration: object = None

    @property
    def epoch(self) -> int:
        """How many epochs are over: the number of the one that goes on, or that is next."""
        return self._following() if self._closed else self.position.epoch

    def dump(self) -> dict[str, Any]:
        """The state; see `loaders.order.state`."""
        return state.dump(self.identity, self.position)

    def load(self, value: Mapping[str, Any]) -> None:
        """Goes to where a state is.

        Raises:
            StateError: If it is of another data set or order.
        """
        self._go(state.load(value, self.identity))

    def next(self) -> IterationSpan:
        """What the next iteration reads."""
        begin = self._begin if self._resumes else self._following()
        start = self.position if self._resumes else Position(epoch=begin)
        return IterationSpan(start=start, end=None if self.epochs is None else begin + self.epochs)

    def begin(self) -> tuple[IterationSpan, object]:
        """Begins an iteration: what it reads, and a token; what the iteration of an older token tells is ignored."""
        span, self._iteration = self.next(), object()
        if not self._resumes:
            self._begin, self.position = span.start.epoch, span.start
        self._resumes = self._closed = False
        return span, self._iteration

    def consume(self, position: Position, iteration: object) -> None:
        """Goes to the position after a batch of an iteration."""
        if iteration is self._iteration:
            self.position = position

    def close(self, span: IterationSpan, iteration: object) -> None:
        """Notes that an iteration is over."""
        if iteration is not self._iteration or span.end is None:
            return
        if self.epochs == 1:
            self._go(Position(epoch=span.end))
        else:
            self._begin, self._iteration, self._closed = span.end - (self.epochs or 1), None, True

    def advance(self, batches: int, *, batch_size: int | None = None) -> None:
        """Goes on by some batches, of the loader's size or another, over the ends of epochs and iterations.

        Raises:
            ValueError: If there is no batch in an epoch, or their number is negative.
        """
        deal = self.deal if batch_size is None else dataclasses.replace(self.deal, batch_size=batch_size)
        if batches < 0 or (batches and not deal.batches()):
            raise ValueError(f"expected a number of batches that the loader has; found {batches}")
        if batches:
            self._go(position_after(deal, self.position, batches - 1))

    def is_over(self) -> bool:
        """Whether the iteration that the position is in has no batch left."""
        span = self.next()
        return self.deal.advance(span.start, 0, end=span.end) is None

    def skip_iteration(self) -> None:
        """Goes to where the next iteration begins."""
        self._go(Position(epoch=self._following()))

    def _following(self) -> int:
        """The first epoch of the iteration after this one; one without end is over in the epoch that it has come to."""
        return self.position.epoch + 1 if self.epochs is None else self._begin + self.epochs

    def __getstate__(self) -> dict[str, Any]:
        # A copy goes on where this one is, as if it had loaded the state.
        return self.__dict__ | {"_resumes": not self._closed, "_iteration": None}

    def _go(self, position: Position) -> None:
        self._begin = position.epoch if self.epochs is None else position.epoch // self.epochs * self.epochs
        self.position, self._resumes, self._closed, self._iteration = position, True, False, None


def make_cursor(view: View, fingerprint: str, options: Options) -> Cursor:
    """The cursor of a loader over a view of the data set of a fingerprint.

    Raises:
        ValueError: If the streams do not divide among the hosts, or a batch not among the streams.
    """
    shuffle, shard = options.shuffle, options.shard or ShardOptions()
    deal = BatchShare(
        rows=view.rows,
        batch_size=options.batch_size,
        streams=options.streams,
        shard=shard,
        remainder=options.remainder,
    )
    identity = state.Identity(
        fingerprint=fingerprint,
        split=view.name,
        shuffle=shuffle if shuffle == "global" else bool(shuffle),
        seed=options.seed & hashing.MASK if shuffle else 0,
        streams=options.streams,
        chunk_records=chunk_records(view.manifest),
        window_rows=window_rows(view.manifest, view.split),
    )
    return Cursor(deal, identity, options.epochs)


def position_after(deal: BatchShare, start: Position, number: int) -> Position:
    """The position after batch `number`, from 0, of those from a position on."""
    # It is where that batch ends, not where the next one begins: these differ at the end of an epoch.
    at = deal.advance(start, number, end=None)
    assert at is not None
    return Position(epoch=at.epoch, rows=at.rows + deal.stream_batch)
