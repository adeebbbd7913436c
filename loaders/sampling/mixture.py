"""Several loaders as one: batches of rows of all, or batches of each in turn, by weight.

TensorFlow is imported only for loaders of tensors.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loaders.numpy import Loader
from loaders.order.state import StateError
from loaders.reading.columns import concatenate_batches

if TYPE_CHECKING:
    import tensorflow as tf

    from loaders.tensorflow.loader import Loader as TensorLoader

VERSION = 3
DIGEST_BYTES = 4

Weights = npt.NDArray[np.float64]

PLACE = ("epoch", "rows")
"""What a loader's state has beside what the order depends on."""


class Mixture:
    """Endless batches of several data sets, or of several parts of one, each in its own order and epochs.

    Without weights every batch has the batches of all loaders, one after the other: their batch sizes are the weights.
    With weights every batch is one loader's, and after n batches each has given its share of n to within less than the
    number of loaders. Which one is next is a function of the weights and the number of the step alone, so that hosts
    agree on it: that for which `(batches + 1/2) / weight` is least, the first of several (Webster's apportionment).
    Weights may change during a training: the next one is then that of those with a weight that is furthest behind the
    sum of its shares of all batches up to the next.

    Args:
        loaders: The loaders, all of `loaders.Loader` or all of `loaders.numpy.Loader`, with `epochs=None` and, if there
            is one, this host's `shard`. Without weights their batches have the same features, dtypes and shapes, and
            `remainder="drop"` or `"pad"` gives all of one size.
        weights: A number above 0 for each loader; or, where they change, such lists by the number of the batch, of all
            that are yielded, from which on they count, such as `{0: [1, 0], 1000: [3, 1]}`, in which some may be 0.

    Raises:
        ValueError: If there is no loader, one ends, or the weights are not as described.
    """

    def __init__(
        self,
        loaders: Sequence[Loader] | Sequence[TensorLoader],
        *,
        weights: Sequence[float] | Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        self._loaders: tuple[Any, ...] = tuple(loaders)
        if not self._loaders or any(loader.epochs is not None for loader in self._loaders):
            raise ValueError(
                "a mixture is of loaders with epochs=None; found epochs "
                f"{', '.join(str(loader.epochs) for loader in self._loaders)}"
            )
        self._weights = None if weights is None else _check(weights, len(self._loaders))
        self._states = [loader.state_dict() for loader in self._loaders]
        self._batches = [0] * len(self._loaders)
        self._iteration: object = None
        self._built: tuple[tf.data.Dataset, tf.Variable] | None = None

    def __iter__(self) -> Iterator[Any]:
        self._point()
        self._iteration = iteration = object()
        return self._run(iteration, [loader.iterate() for loader in self._loaders], list(self._batches))

    def _run(
        self, iteration: object, iterators: Sequence[Iterator[tuple[dict[str, Any], Any]]], batches: list[int]
    ) -> Iterator[Any]:
        while True:
            chosen = self._next(batches)
            found = [next(iterators[source], None) for source in chosen]
            given = [pair for pair in found if pair is not None]
            if len(given) < len(found):
                return  # a loader without rows has no batch
            for source, (state, _) in zip(chosen, given, strict=True):
                batches[source] += 1
                if iteration is self._iteration:
                    self._states[source], self._batches[source] = state, batches[source]
            yield self._concatenate([batch for _, batch in given])

    def _concatenate(self, batches: Sequence[Any]) -> Any:
        if isinstance(self._loaders[0], Loader):
            return concatenate_batches(batches, np.concatenate)
        from loaders.tensorflow.python_batches import concatenate  # with TensorFlow, which its loaders have imported

        return concatenate(batches)

    def _next(self, batches: Sequence[int]) -> Sequence[int]:
        return range(len(batches)) if self._weights is None else [next_source(batches, self._weights)]

    @property
    def epochs(self) -> None:
        """How many epochs an iteration has: it has no end."""
        return None

    @property
    def batch_size(self) -> list[int]:
        """The rows of a batch of each loader."""
        return [loader.batch_size for loader in self._loaders]

    def dataset(self) -> tf.data.Dataset:
        """The pipeline from where the mixture is; the loaders are those of `loaders.Loader`.

        Returns:
            A data set whose next iterator begins where the mixture is. A mixture has one pipeline: to call this again,
            `load_state_dict` or `advance` sets where its next iterator begins.
        """
        if self._built is None:
            from loaders.tensorflow.python_batches import (
                mixture_dataset,
            )  # with TensorFlow, which its loaders have imported

            choose = None if self._weights is None else lambda batches: self._next(batches)[0]
            self._built = mixture_dataset(self._loaders, choose)
        self._point()
        return self._built[0]

    def advance(self, batches: int, *, batch_size: Sequence[int] | None = None) -> None:
        """Counts batches as consumed that a loop took from `dataset()`.

        Args:
            batches: How many.
            batch_size: The rows that each loader's had; None for those that they have.

        Raises:
            ValueError: If `batches` is negative, or a loader has no batch.
        """
        if operator.index(batches) < 0:
            raise ValueError(f"expected a number of batches; found {batches}")
        counts = list(self._batches)
        for _ in range(batches):
            for source in self._next(counts):
                counts[source] += 1
        self._load()
        for source, loader in enumerate(self._loaders):
            given = counts[source] - self._batches[source]
            loader.advance(given, batch_size=None if batch_size is None else batch_size[source])
            self._states[source] = loader.state_dict()
        self._batches, self._iteration = counts, None
        self._point()

    def skip_iteration(self) -> None:
        """Goes to the next iteration, which goes on as this one does."""

    def is_over(self) -> bool:
        """Whether no batch is left: one always is."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Which rows are consumed: those of all batches that the last iterator has yielded.

        Returns:
            JSON values: of each loader a digest of what its order depends on, where it is, and, with weights, how many
            batches it has given. Under 1 KB for two dozen loaders.
        """
        value: dict[str, Any] = {
            "version": VERSION,
            "loaders": "".join(_digest(state) for state in self._states),
            "places": [[state[name] for name in PLACE] for state in self._states],
        }
        return value if self._weights is None else value | {"batches": list(self._batches)}

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Lets the next iteration go on with the batch after the state.

        Args:
            value: What `state_dict` gave, of as many loaders of the same data sets and orders, and with weights or
                without as here.

        Raises:
            StateError: If it is another state; it is a `ValueError`.
        """
        expected = self.state_dict()
        if not isinstance(value, Mapping) or set(value) != set(expected) or value["version"] != VERSION:
            raise StateError(
                f"expected the state of a mixture with {', '.join(expected)}, of version {VERSION}; found {value!r}"
            )
        count, step = len(self._loaders), 2 * DIGEST_BYTES
        found = [value["loaders"][at : at + step] for at in range(0, len(value["loaders"]), step)]
        batches = value.get("batches", self._batches)
        if len(found) != count or len(value["places"]) != count or len(batches) != count:
            raise StateError(f"expected the state of a mixture of {count} loaders; found one of {len(found)}")
        for number, (digest, state) in enumerate(zip(found, self._states, strict=True)):
            if digest != _digest(state):
                raise StateError(
                    f"loader {number}: expected the state of {state['split']} of data set {state['fingerprint']} in "
                    f"its order, with digest {_digest(state)}; found {digest}"
                )
        states = [
            state | dict(zip(PLACE, place, strict=True))
            for state, place in zip(self._states, value["places"], strict=True)
        ]
        for loader, state in zip(self._loaders, states, strict=True):
            loader.load_state_dict(state)
        self._states, self._batches, self._iteration = states, list(batches), None
        self._point()

    def _load(self) -> None:
        # Each loader goes on with the batch after the last one, whatever it has read ahead.
        for loader, state in zip(self._loaders, self._states, strict=True):
            loader.load_state_dict(state)

    def _point(self) -> None:
        self._load()
        if self._built is not None:
            self._built[1].assign(self._batches)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_iteration": None, "_built": None}


def _digest(state: Mapping[str, Any]) -> str:
    """A digest of what the order of a loader depends on."""
    identity = {name: value for name, value in state.items() if name not in PLACE}
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _check(weights: Sequence[float] | Mapping[int, Sequence[float]], count: int) -> Weights | Schedule:
    """Weights of so many loaders; an error where they are of others, or where one that stays is not above 0."""
    found: Weights | Schedule
    if isinstance(weights, Mapping):
        found, above = Schedule(weights), True
    else:
        found = np.array(weights, dtype=np.float64)
        above = bool((found > 0).all())
    if found.shape != (count,) or not above:
        raise ValueError(f"weights is a number above 0 for each of {count} loaders; found {weights!r}")
    return found


class Schedule:
    """Weights that change.

    Args:
        weights: The weights of all sources, by the number of the batch from which on they count; the first is 0.

    Attributes:
        shape: `(sources,)`.

    Raises:
        ValueError: If none counts from the beginning, or they are not numbers of at least 0, some above it, as many
            each time.
    """

    def __init__(self, weights: Mapping[int, Sequence[float]]) -> None:
        starts = sorted(operator.index(start) for start in weights)
        if not starts or starts[0] != 0:
            raise ValueError(f"weights that change begin with batch 0; found {weights!r}")
        if len({len(weights[start]) for start in starts}) > 1:
            raise ValueError(f"weights that change are as many from each batch on; found {weights!r}")
        values = np.array([weights[start] for start in starts], dtype=np.float64)
        if not ((values >= 0) & np.isfinite(values)).all() or not values.any(axis=1).all():
            raise ValueError(f"weights that change are at least 0, and of each list one is above it; found {weights!r}")
        self._starts, self._shares = np.array(starts), values / values.sum(axis=1, keepdims=True)
        self.shape = values.shape[1:]

    def due(self, batches: int) -> Weights:
        """How many of the first batches each source has by its weights, a fraction: float64 of shape [sources]."""
        lengths = np.diff(np.minimum(np.append(self._starts, batches), batches))
        shares: Weights = lengths @ self._shares
        return shares

    def next_source(self, batches: Sequence[int]) -> int:
        """Which source gives the next batch, by how many each has given."""
        count = sum(batches)
        share = self._shares[np.searchsorted(self._starts, count, side="right") - 1]
        return int(np.argmax(np.where(share > 0, self.due(count + 1) - np.array(batches), -np.inf)))


def next_source(batches: Sequence[int], weights: Weights | Schedule) -> int:
    """Which source gives the next batch.

    Args:
        batches: How many each has given.
        weights: The weight of each, float64 of shape [sources]; or weights that change.
    """
    if isinstance(weights, Schedule):
        return weights.next_source([int(count) for count in batches])
    return int(np.argmin((np.array(batches) + 0.5) / weights))
