"""Feeds JAX: batches of `loaders.numpy.Loader` as arrays on devices, one ahead of the training step."""

from __future__ import annotations

import collections
import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

try:
    import jax
except ImportError as error:
    raise ImportError("loaders.jax needs JAX: pip install 'npyflow[jax]'") from error

from loaders import numpy
from loaders.options import Keywords, Options, shows
from loaders.order.epoch import ShardOptions

__all__ = ["Loader", "ShardOptions"]

# The batch that is trained on, and the one that is copied meanwhile.
BUFFERED = 2


@shows(Options)
class Loader:
    """Yields batches of `jax.Array`; the copy of the next one begins before one is yielded.

    JAX makes 32-bit numbers of 64-bit ones unless `jax_enable_x64` is set. Strings stay NumPy arrays of objects.

    Args:
        root, split: As in `loaders.numpy.Loader`.
        sharding: A `jax.sharding.Sharding` of batches, the rows being the first axis; or a device; None for the default
            device. Where a sharding spans several processes, each gives the rows of its own `shard`.
        {options}

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If an option's value is of another type.
        ValueError: If an option's value is not allowed.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str, *, sharding: Any = None, **options: Unpack[Keywords]
    ) -> None:
        self._loader = numpy.Loader(root, split, **options)
        self._sharding = sharding
        self._state = self._loader.state_dict()
        self._iteration: object = None
        self._over = False

    def __len__(self) -> int:
        """How many batches one iteration has.

        Raises:
            TypeError: If it has no end.
        """
        return len(self._loader)

    @property
    def epoch(self) -> int:
        """How many epochs are over: the number of the one that goes on, or that is next."""
        return self._loader.epoch if self._over else int(self._state["epoch"])

    def __iter__(self) -> Iterator[Any]:
        self._iteration = iteration = object()
        batches, self._over = self._loader.iterate(), False
        self._state = self._loader.state_dict()
        return self._run(iteration, batches)

    def _run(self, iteration: object, batches: Iterator[tuple[dict[str, Any], Any]]) -> Iterator[Any]:
        buffered: collections.deque[tuple[dict[str, Any], Any]] = collections.deque()
        more = True
        while more or buffered:
            while more and len(buffered) < BUFFERED:
                state, batch = next(batches, (None, None))
                more = state is not None
                if state is not None:
                    buffered.append((state, self._put(batch)))
            if buffered:
                state, batch = buffered.popleft()
                if iteration is self._iteration:
                    self._state = state
                yield batch
        if iteration is self._iteration:
            self._state, self._over = self._loader.state_dict(), self._loader.epochs is not None

    def _put(self, batch: Any) -> Any:
        if isinstance(batch, dict):
            return {name: self._put(values) for name, values in batch.items()}
        if isinstance(batch, tuple):
            return tuple(self._put(values) for values in batch)
        if batch.dtype == object:
            return batch
        if isinstance(self._sharding, jax.sharding.Sharding) and not self._sharding.is_fully_addressable:
            return jax.make_array_from_process_local_data(self._sharding, batch)
        return jax.device_put(batch, self._sharding)

    def state_dict(self) -> dict[str, Any]:
        """Which rows are consumed: those of all batches that the last iterator has yielded, not what is copied ahead.

        Returns:
            The state of `loaders.numpy.Loader`, which either loads.
        """
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next iteration go on with the batch after the state.

        Raises:
            StateError: If it is of another data set or order; it is a `ValueError`.
        """
        self._loader.load_state_dict(state)
        self._state, self._iteration, self._over = self._loader.state_dict(), None, False

    def __getstate__(self) -> dict[str, Any]:
        loader = copy.copy(self._loader)
        if not self._over:
            loader.load_state_dict(self._state)
        return self.__dict__ | {"_loader": loader, "_iteration": None}
