"""Feeds JAX: batches of `loaders.numpy.Loader` as arrays on devices, one ahead of the training step."""

from __future__ import annotations

import collections
import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import numpy as np

try:
    import jax
except ImportError as error:
    raise ImportError("loaders.jax needs JAX: pip install 'npyflow[jax]'") from error

from loaders import numpy
from loaders.options import Keywords, Options, check_bool, shows
from loaders.order.epoch import ShardOptions

__all__ = ["Loader", "ShardOptions"]

# The batch that is trained on, and the one that is copied meanwhile.
BUFFERED = 2

MOST_AXES = 8
"""A sharding of more axes than these is not checked before the first batch."""


@shows(Options)
class Loader:
    """Yields batches of `jax.Array`; the copy of the next one begins before one is yielded.

    Unless `jax_enable_x64` is set, JAX has no numbers of 64 bits. Integers then come in 32 bits if they fit; one that
    does not is an error, and so is a feature of float64 or complex128 without `narrow`. Strings stay NumPy arrays of
    objects.

    Args:
        root: As in `loaders.numpy.Loader`.
        split: As in `loaders.numpy.Loader`.
        sharding: A `jax.sharding.Sharding` of batches, the rows being the first axis; or a device; None for the default
            device. Where a sharding spans several processes, each gives the rows of its own `shard`.
        narrow: Whether float64 is rounded to float32, and complex128 to complex64, where `jax_enable_x64` is not set.
        **options: The fields of `loaders.options.Options`, as keywords.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If an option's value is of another type.
        ValueError: If an option's value is not allowed, the sharding cannot cut a batch of an epoch, or a feature needs
            `narrow`; when it is iterated, if an integer needs 64 bits.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        *,
        sharding: Any = None,
        narrow: bool = False,
        **options: Unpack[Keywords],
    ) -> None:
        check_bool("narrow", narrow)
        self._loader = numpy.Loader(root, split, **options)
        self._sharding, self._narrow = sharding, narrow
        self._state = self._loader.state_dict()
        # What a function makes of a feature is known when its first batch comes.
        self._features = () if options.get("augment") else self._loader.features
        for feature in self._features:
            if not feature.variable:
                self._check_width(feature.name, feature.numpy_dtype)
        self._check_sharding()
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

    def _check_sharding(self) -> None:
        """Checks that every batch from where the loader is to the end of an epoch can be cut."""
        if not isinstance(self._sharding, jax.sharding.Sharding):
            return
        deal, joined = self._loader.deal, not self._sharding.is_fully_addressable
        left = max(0, deal.rows - self._state["rows"] * deal.streams)
        sizes = [left % deal.batch_size, deal.rows % deal.batch_size] if deal.remainder == "keep" else []
        parts = self._sharding.num_devices  # an axis of so many can be cut, whatever the sharding
        for rows in [deal.batch_size, *filter(None, sizes)]:
            for name, axes in [(f.name, [parts if n is None else n for n in f.shape]) for f in self._features]:
                self._check_cut(name, (rows if joined else rows // deal.shard.count, *axes))
            if not self._features:
                self._check_cut("batch", (rows if joined else rows // deal.shard.count, *[parts] * MOST_AXES))

    def _check_cut(self, name: str, shape: tuple[int, ...]) -> None:
        try:
            self._sharding.shard_shape(shape)
        except ValueError as error:
            raise ValueError(
                f"{name}: expected batches that the sharding can cut; found one of shape {list(shape)}. Choose a "
                f"batch_size that it divides, and remainder='drop' or 'pad' ({error})"
            ) from error

    def _check_width(self, name: str, dtype: np.dtype[Any]) -> bool:
        """Whether JAX has fewer bits than a dtype; an error where they may not be lost."""
        if jax.dtypes.canonicalize_dtype(dtype) == dtype:
            return False
        if dtype.kind in "fc" and not self._narrow:
            raise ValueError(
                f"{name}: expected values of 32 bits, which JAX has; found {dtype}. To keep it, "
                "jax.config.update('jax_enable_x64', True); to round it, narrow=True"
            )
        return True

    def _put(self, batch: Any, name: str = "batch") -> Any:
        if isinstance(batch, dict):
            return {name: self._put(values, name) for name, values in batch.items()}
        if isinstance(batch, tuple):
            return tuple(self._put(values) for values in batch)
        if batch.dtype == object:
            return batch
        if self._check_width(name, batch.dtype) and batch.dtype.kind in "iu" and batch.size:
            held = np.iinfo(jax.dtypes.canonicalize_dtype(batch.dtype))
            for found in (batch.min(), batch.max()):
                if not held.min <= found <= held.max:
                    raise ValueError(
                        f"{name}: expected {held.dtype}, which JAX makes of {batch.dtype}; found {found}. To keep it, "
                        "jax.config.update('jax_enable_x64', True)"
                    )
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
        self._check_sharding()

    def __getstate__(self) -> dict[str, Any]:
        loader = copy.copy(self._loader)
        if not self._over:
            loader.load_state_dict(self._state)
        return self.__dict__ | {"_loader": loader, "_iteration": None}
