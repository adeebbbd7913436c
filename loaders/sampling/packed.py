"""Rows of varying length packed into batches of one shape: several rows after each other in place of padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.numpy import Loader
from loaders.order.state import StateError
from loaders.reading.columns import LENGTH_SUFFIX, MASK

SEGMENTS, POSITIONS = "segment_ids", "positions"
"""The names under which a batch tells which row of the data set each step is of, and which step of it."""

I64 = npt.NDArray[np.int64]


class Packed:
    """Batches of `[batch_size, length]` steps, each of which holds as many whole rows of a data set as fit.

    The rows of one batch of the loader are packed together: each goes, in its order, to the first place that has room.
    The more rows, the fewer places stay empty; a thousand are enough for most. A row longer than `length` is cut, and
    each piece counts as a row whose positions go on. Nothing is left out.

    A batch is a dict of arrays of one shape, whatever the rows: `[batch_size, length, *inner shape]` for each feature
    of varying length, zero where no row is; `[batch_size, length, *shape]` for every other feature, which has the value
    of its row at each of the row's steps; `segment_ids`, int32 `[batch_size, length]`, 1, 2, … for the rows that lie
    there, and 0 where none is; and `positions`, int32, which step of its row each step is.

    Args:
        loader: A loader that yields dicts. Where several hosts share its rows, one with `epochs=None`, as hosts have
            different numbers of packed batches.
        length: The steps of each place.
        batch_size: The places of a batch, of this host. The last batch of an iteration is filled up with empty ones.

    Raises:
        ValueError: If a number is below 1, the loader has no feature of varying length, one of the names that a batch
            has beside them, or ends, where there are several hosts. When it is iterated, if the features of a row that
            vary in length differ in it.
    """

    def __init__(self, loader: Loader, *, length: int, batch_size: int) -> None:
        self._loader, self._length, self._batch_size = loader, length, batch_size
        features = {feature.name: feature for feature in loader.features}
        self._ragged = [name for name, feature in features.items() if feature.ragged]
        if length < 1 or batch_size < 1:
            raise ValueError(f"length and batch_size are at least 1; found {length} and {batch_size}")
        if not self._ragged:
            raise ValueError(f"expected a feature of rows of varying length; found {', '.join(features)}")
        if reserved := {SEGMENTS, POSITIONS} & set(features):
            raise ValueError(f"{', '.join(sorted(reserved))}: a packed batch has this name; found a feature of it")
        if loader.shard.count > 1 and loader.epochs is not None:
            raise ValueError(
                f"epochs: expected None, as {loader.shard.count} hosts have different numbers of packed batches, and "
                f"would wait for each other; found {loader.epochs}"
            )
        self._state: dict[str, Any] = {"loader": loader.state_dict(), "places": 0}
        self._iteration: object = None

    def state_dict(self) -> dict[str, Any]:
        """Which rows are consumed: those of all batches that the last iterator has yielded.

        Returns:
            JSON values, under 1 KB, of this host: the loader's state, and how many places of its next batch are gone.
        """
        return {**self._state, "length": self._length, "rows": self._loader.batch_size}

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Lets the next iteration go on with the batch after a state; `batch_size` may be another.

        Raises:
            StateError: If the rows are packed otherwise, or it is not a state of the loader.
        """
        found = {key: value.get(key) for key in ("length", "rows")}
        expected = {"length": self._length, "rows": self._loader.batch_size}
        if found != expected:
            raise StateError(f"packed rows: expected a state of {expected}; found {found}")
        self._loader.load_state_dict(value["loader"])
        self._state = {"loader": value["loader"], "places": value["places"]}

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        self._iteration = iteration = object()
        self._loader.load_state_dict(self._state["loader"])
        return self._run(iteration, self._state["loader"], self._state["places"])

    def _run(self, iteration: object, before: Any, gone: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        batch, filled = None, 0
        for after, rows in self._loader.iterate():
            packed = self._pack(rows)
            count = len(packed[SEGMENTS])
            while gone < count:
                batch = batch or {n: np.zeros((self._batch_size, *v.shape[1:]), v.dtype) for n, v in packed.items()}
                some = min(self._batch_size - filled, count - gone)
                for name, values in packed.items():
                    batch[name][filled : filled + some] = values[gone : gone + some]
                gone, filled = gone + some, filled + some
                if filled == self._batch_size:
                    self._consume(iteration, before if gone < count else after, gone if gone < count else 0)
                    yield batch
                    batch, filled = None, 0
            before, gone = after, 0
        if batch is not None:
            self._consume(iteration, before, 0)
            yield batch
        self._consume(iteration, self._loader.state_dict(), 0)

    def _consume(self, iteration: object, state: Any, places: int) -> None:
        if iteration is self._iteration:
            self._state = {"loader": state, "places": places}

    def _pack(self, rows: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """The rows of a batch of the loader in places: `[places, length, …]` by name."""
        lengths = self._lengths(rows)
        row, first, steps = _pieces(lengths, self._length)
        place, offset, segment = _first_fit(steps, self._length)
        count = int(place.max(initial=-1)) + 1
        # One entry for each step: of which row it is, which step of it, and where it goes.
        within = np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
        of_row, at = np.repeat(row, steps), np.repeat(first, steps) + within
        to = np.repeat(place * self._length + offset, steps) + within

        def put(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            flat = np.full(
                (count * self._length, *values.shape[1:]), b"" if values.dtype == object else 0, values.dtype
            )
            flat[to] = values
            return flat.reshape(count, self._length, *values.shape[1:])

        beside = {MASK, *(name + LENGTH_SUFFIX for name in self._ragged)}
        packed = {
            name: put(values[of_row, at] if name in self._ragged else values[of_row])
            for name, values in rows.items()
            if name not in beside
        }
        return packed | {SEGMENTS: put(np.repeat(segment, steps).astype(np.int32)), POSITIONS: put(at.astype(np.int32))}

    def _lengths(self, rows: Mapping[str, npt.NDArray[Any]]) -> I64:
        if not isinstance(rows, dict):
            raise ValueError("expected a loader that yields dicts; found one with as_supervised")
        lengths: I64 = rows[self._ragged[0] + LENGTH_SUFFIX]
        for name in self._ragged[1:]:
            if (other := lengths != rows[name + LENGTH_SUFFIX]).any():
                found = rows[name + LENGTH_SUFFIX][other][0]
                raise ValueError(
                    f"feature {name}: expected rows as long as those of {self._ragged[0]}, "
                    f"{lengths[other][0]} steps; found {found}. `features=` leaves features out"
                )
        return lengths


def _pieces(lengths: I64, most: int) -> tuple[I64, I64, I64]:
    """Rows in pieces of at most so many steps: of each piece the row, its first step, and its steps."""
    counts = -(-lengths // most)
    row = np.repeat(np.arange(len(lengths)), counts)
    first = (np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)) * most
    return row, first, np.minimum(lengths[row] - first, most)


def _first_fit(steps: I64, length: int) -> tuple[I64, I64, I64]:
    """Where pieces go: of each the place, the first step there, and which piece of the place it is, from 1."""
    place, offset, segment = (np.zeros(len(steps), np.int64) for _ in range(3))
    used, held = np.zeros(len(steps), np.int64), np.zeros(len(steps), np.int64)
    opened = 0
    for number, wanted in enumerate(steps.tolist()):
        room = used[:opened] + wanted <= length
        chosen = int(room.argmax()) if opened else 0
        if not (opened and room[chosen]):
            chosen, opened = opened, opened + 1
        place[number], offset[number] = chosen, used[chosen]
        used[chosen] += wanted
        held[chosen] += 1
        segment[number] = held[chosen]
    return place, offset, segment
