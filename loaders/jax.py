"""Feeds JAX: batches of `loaders.numpy.Loader` as arrays on devices, one ahead of the training step."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

try:
    import jax
except ImportError as error:
    raise ImportError("loaders.jax needs JAX: pip install 'npyflow[jax]'") from error

from loaders import numpy
from loaders.options import Keywords, Options, check_bool, shows
from loaders.order.epoch import Position, ShardOptions
from loaders.order.position import IterationSpan

__all__ = ["Loader", "ShardOptions"]

# The batch that is trained on, and the one that is copied meanwhile.
BUFFERED = 2

MOST_AXES = 8
"""A sharding of more axes than these is not checked before the first batch."""


@shows(Options)
class Loader(numpy.Loader):
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
        super().__init__(root, split, **options)
        self._sharding, self._narrow = sharding, narrow
        # What a function makes of a feature is known when its first batch comes.
        self._known = () if options.get("augment") else self.features
        for feature in self._known:
            if not feature.variable:
                self._check_width(feature.name, feature.numpy_dtype)
        self._moved()

    def _run(
        self, span: IterationSpan, iteration: object, batches: Iterator[tuple[Position, Any]]
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        return super()._run(span, iteration, self._on_devices(batches))

    def _on_devices(self, batches: Iterator[tuple[Position, Any]]) -> Iterator[tuple[Position, Any]]:
        buffered: collections.deque[tuple[Position, Any]] = collections.deque()
        for after, batch in batches:
            buffered.append((after, self._put(batch)))
            if len(buffered) == BUFFERED:
                yield buffered.popleft()
        yield from buffered

    def _moved(self) -> None:
        """Checks that every batch from where the loader is to the end of an epoch can be cut."""
        if not isinstance(self._sharding, jax.sharding.Sharding):
            return
        deal, joined = self.deal, not self._sharding.is_fully_addressable
        left = max(0, deal.rows - self._cursor.position.rows * deal.streams)
        sizes = [left % deal.batch_size, deal.rows % deal.batch_size] if deal.remainder == "keep" else []
        parts = self._sharding.num_devices  # an axis of so many can be cut, whatever the sharding
        for rows in [deal.batch_size, *filter(None, sizes)]:
            for name, axes in [(f.name, [parts if n is None else n for n in f.shape]) for f in self._known]:
                self._check_cut(name, (rows if joined else rows // deal.shard.count, *axes))
            if not self._known:
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
