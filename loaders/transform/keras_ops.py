"""What steps are made of, in Keras: on whichever backend, in graphs and compiled functions too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from loaders.transform.ops import ArrayOps


class KerasOps(ArrayOps):
    """In `keras.ops`. On JAX, unless `jax_enable_x64` is set, all is computed with 32 bits."""

    xp: Any = keras.ops

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        if dtype is None:
            dtype = values.dtype
        return keras.ops.cast(keras.ops.convert_to_tensor(values), keras.backend.standardize_dtype(dtype))

    def cast(self, values: Any, dtype: str) -> Any:
        return self.asarray(values, dtype)

    def shape(self, x: Any) -> tuple[Any, ...]:
        """The shape, of which the batch may be a tensor."""
        return tuple(keras.ops.shape(x))

    def maximum(self, x: Any, y: int) -> Any:
        return max(x, y) if isinstance(x, int) else keras.ops.maximum(x, y)

    def transpose(self, x: Any, order: Sequence[int] | None = None) -> Any:
        return keras.ops.transpose(x, order)

    def concat_last(self, parts: Sequence[Any]) -> Any:
        return keras.ops.concatenate(parts, axis=-1)

    def solve_positive(self, matrices: Any, values: Any) -> Any:
        return keras.ops.solve(matrices, values)

    def replace_rows(self, x: Any, chosen: Any, function: Callable[[Any], Any], together: int) -> Any:
        """`[batch, n]` with the result of a function for the rows that are chosen; it is computed for all."""
        return keras.ops.where(chosen[:, None], function(x), x)

    def ndtri(self, values: Any) -> Any:
        return math.sqrt(2.0) * keras.ops.erfinv(2.0 * values - 1.0)

    def rank(self, x: Any, constants: Mapping[str, Any]) -> tuple[Any, Any]:
        words, order = (np.asarray(constants[name], np.int64) for name in ("vocabulary", "order"))
        places, known = self._find(x, words[order])
        return keras.ops.take(self.int64(order), places), known

    def unknown_rank(self, x: Any, constants: Mapping[str, Any], buckets: int) -> Any:
        """The number for what a vocabulary has not.

        Raises:
            ValueError: If it is one of several, which are told by a hash that Keras has not.
        """
        if buckets > 1:
            raise ValueError(f"expected one bucket, or none, for words that a vocabulary has not; found {buckets}")
        return self.int64(len(constants["vocabulary"]) if buckets else -1)

    def pick(self, array: npt.NDArray[Any], groups: npt.NDArray[Any], keys: Any, name: str) -> Any:
        """The constants of each row's group; those of the last place for a group that is not known."""
        places, known = self._find(keys, np.asarray(groups, np.int64))
        return keras.ops.take(self.float64(array), keras.ops.where(known, places, len(array) - 1), axis=0)

    def _find(self, x: Any, ascending: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """Where integers stand among others, and whether they do; of none, one that nothing is."""
        among = self.int64(ascending if len(ascending) else np.full(1, np.iinfo(np.int32).min))
        flat = keras.ops.reshape(self.int64(x), (-1,))
        found = keras.ops.clip(keras.ops.searchsorted(among, flat), 0, max(len(ascending) - 1, 0))
        places = keras.ops.reshape(self.int64(found), keras.ops.shape(x))
        return places, keras.ops.take(among, places) == self.int64(x)
