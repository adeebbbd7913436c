"""Several loaders as one: batches of rows of all, or batches of each in turn, by weight. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from loaders.numpy import Loader
from loaders.state import StateError

VERSION = 1


class Mixture:
    """Endless batches of several data sets, or of several parts of one, each in its own order and epochs.

    Without weights every batch has the batches of all loaders, one after the other: their batch sizes are the weights.
    With weights every batch is one loader's, and after n batches each has given its share of n to within less than the
    number of loaders. Which one is next is a function of the weights and the number of the step alone, so that hosts
    agree on it: that for which `(batches + 1/2) / weight` is least, the first of several (Webster's apportionment).

    Args:
        loaders: The loaders, with `epochs=None` and, if there is one, this host's `shard`. Without weights their
            batches have the same features, dtypes and shapes, and `remainder="drop"` or `"pad"` gives all of one size.
        weights: A number above 0 for each loader.

    Raises:
        ValueError: If there is no loader, one ends, or the weights are not one above 0 for each.
    """

    def __init__(self, loaders: Sequence[Loader], *, weights: Sequence[float] | None = None) -> None:
        self._loaders = tuple(loaders)
        if not self._loaders or any(loader.epochs is not None for loader in self._loaders):
            raise ValueError(
                "a mixture is of loaders with epochs=None; found epochs "
                f"{', '.join(str(loader.epochs) for loader in self._loaders)}"
            )
        self._weights = None if weights is None else np.array(weights, dtype=np.float64)
        if self._weights is not None and (
            self._weights.shape != (len(self._loaders),) or not (self._weights > 0).all()
        ):
            raise ValueError(f"weights is a number above 0 for each of {len(self._loaders)} loaders; found {weights!r}")
        self._states = [loader.state_dict() for loader in self._loaders]
        self._batches = [0] * len(self._loaders)
        self._iteration: object = None

    def __iter__(self) -> Iterator[Any]:
        # Each loader goes on with the batch after the last one, whatever it has read ahead.
        for loader, state in zip(self._loaders, self._states, strict=True):
            loader.load_state_dict(state)
        self._iteration = iteration = object()
        return self._run(iteration, [loader.iterate() for loader in self._loaders], list(self._batches))

    def _run(
        self, iteration: object, iterators: Sequence[Iterator[tuple[dict[str, Any], Any]]], batches: list[int]
    ) -> Iterator[Any]:
        while True:
            chosen = range(len(iterators)) if self._weights is None else [next_source(batches, self._weights)]
            found = [next(iterators[source], None) for source in chosen]
            given = [pair for pair in found if pair is not None]
            if len(given) < len(found):
                return  # a loader without rows has no batch
            for source, (state, _) in zip(chosen, given, strict=True):
                batches[source] += 1
                if iteration is self._iteration:
                    self._states[source], self._batches[source] = state, batches[source]
            yield joined([batch for _, batch in given])

    def state_dict(self) -> dict[str, Any]:
        """Which rows are consumed: those of all batches that the last iterator has yielded.

        Returns:
            JSON values: the state of each loader, and how many batches each has given.
        """
        return {"version": VERSION, "loaders": list(self._states), "batches": list(self._batches)}

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Lets the next iteration go on with the batch after the state.

        Args:
            value: What `state_dict` gave, of as many loaders of the same data sets and orders.

        Raises:
            StateError: If it is another state; it is a `ValueError`.
        """
        count = len(self._loaders)
        if not isinstance(value, Mapping) or set(value) != {"version", "loaders", "batches"}:
            raise StateError(f"expected the state of a mixture; found {value!r}")
        if value["version"] != VERSION or len(value["loaders"]) != count or len(value["batches"]) != count:
            raise StateError(
                f"expected the state of a mixture of {count} loaders, of version {VERSION}; found one of "
                f"{len(value['loaders'])}, of version {value['version']!r}"
            )
        for loader, state in zip(self._loaders, value["loaders"], strict=True):
            loader.load_state_dict(state)
        self._states, self._batches = list(value["loaders"]), list(value["batches"])
        self._iteration = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_iteration": None}


def next_source(batches: Sequence[int], weights: np.ndarray[Any, np.dtype[np.float64]]) -> int:
    """Which source gives the next batch.

    Args:
        batches: How many each has given.
        weights: The weight of each, float64 of shape [sources].
    """
    return int(np.argmin((np.array(batches) + 0.5) / weights))


def joined(batches: Sequence[Any]) -> Any:
    """Batches of the same features as one, whose rows are those of one after the other.

    Args:
        batches: Dicts, tuples or arrays, alike in everything but the number of rows.

    Raises:
        ValueError: If they are not.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, dict):
        if any(set(batch) != set(first) for batch in batches):
            found = "; ".join(", ".join(sorted(batch)) for batch in batches)
            raise ValueError(f"a mixture expects the same features of all loaders; found {found}")
        return {name: joined([batch[name] for batch in batches]) for name in first}
    if isinstance(first, tuple):
        return tuple(joined(parts) for parts in zip(*batches, strict=True))
    if any((batch.dtype, batch.shape[1:]) != (first.dtype, first.shape[1:]) for batch in batches):
        found = "; ".join(f"{batch.dtype} of shape {list(batch.shape[1:])}" for batch in batches)
        raise ValueError(f"a mixture expects rows of one dtype and shape; found {found}")
    return np.concatenate(batches)
