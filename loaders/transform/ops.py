"""What steps and their inverses are made of: the array API standard, and what it lacks, in each framework."""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

NEWTON_STEPS = 8
"""Enough for Lambert's W from the start below, whatever the number; tf.transform takes as many."""


def framework(values: Any) -> str:
    """The package that an array or a tensor is of."""
    return type(values).__module__.partition(".")[0]


def ops_of(values: Any) -> ArrayOps:
    """The operations for arrays of the kind that one is.

    Raises:
        TypeError: If it is no array of NumPy, PyTorch or JAX.
    """
    kinds: dict[str, type[ArrayOps]] = {"numpy": ArrayOps, "torch": TorchOps, "jax": JaxOps, "jaxlib": JaxOps}
    made = kinds.get(framework(values))
    if made is None:
        raise TypeError(f"expected arrays of NumPy, PyTorch or JAX; found {type(values).__qualname__}")
    return made(values)


class ArrayOps:
    """In NumPy, and what is written with the array API standard alone.

    What is not here is looked up in `xp`.

    Attributes:
        xp: The functions of the standard.
    """

    xp: Any = np

    def __init__(self, like: Any = None) -> None:
        """Makes the operations for arrays that lie where one does."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def precise(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which there are numbers of 64 bits."""
        return contextlib.nullcontext()

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """An array of this kind, where the others lie."""
        return self.xp.asarray(values, dtype=dtype)

    def on_host(self, values: Any) -> npt.NDArray[Any]:
        """Values as a NumPy array, for what no framework but NumPy does: text, and choosing rows."""
        return np.asarray(values)

    def cast(self, values: Any, dtype: str) -> Any:
        """Values in the dtype of a name."""
        return self.asarray(values, getattr(self.xp, dtype))

    def leave(self, values: Any, dtype: npt.DTypeLike) -> Any:
        """Values in the dtype in which they leave."""
        return self.cast(values, np.dtype(dtype).name)

    def float64(self, values: Any) -> Any:
        """Values as float64."""
        return self.cast(values, "float64")

    def int64(self, values: Any) -> Any:
        """Values as int64."""
        return self.cast(values, "int64")

    def cast_like(self, values: Any, like: Any) -> Any:
        """Values in the dtype of others."""
        return self.asarray(values, like.dtype)

    def literal(self, value: float, _: Any) -> Any:
        """A float64 number."""
        return self.float64(value)

    constant = literal

    def shape(self, x: Any) -> tuple[int, ...]:
        """The shape."""
        return tuple(x.shape)

    def length(self, x: Any) -> int:
        """The length of the last axis."""
        return int(x.shape[-1])

    def maximum(self, x: Any, y: int) -> Any:
        """The greater one of two lengths, or places that are no less than a number."""
        return max(x, y) if isinstance(x, int) else self.xp.clip(x, y, None)

    def minimum(self, x: Any, length: int) -> Any:
        """Places that are no greater than a length."""
        return self.xp.clip(x, 0, length)

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        """Values in another shape."""
        return self.xp.reshape(x, tuple(shape))

    def transpose(self, x: Any, order: Sequence[int] | None = None) -> Any:
        """The axes in another order; in reverse without one."""
        return self.xp.permute_dims(x, tuple(range(len(x.shape)))[::-1] if order is None else tuple(order))

    def ensure_shape(self, x: Any, _: Any) -> Any:
        """As it is."""
        return x

    def concat_last(self, parts: Sequence[Any]) -> Any:
        """Arrays side by side along the last axis."""
        return self.xp.concat(parts, axis=-1)

    def any_last(self, x: Any) -> Any:
        """Whether one along the last axis is true."""
        return self.xp.any(x, axis=-1)

    def identity(self, size: int) -> Any:
        """The identity matrix, `[size, size]` of float64."""
        return self.float64(np.eye(size))

    def solve_positive(self, matrices: Any, values: Any) -> Any:
        """Solves systems of equations."""
        return self.xp.linalg.solve(matrices, values)

    def replace_rows(self, x: Any, chosen: Any, function: Callable[[Any], Any], together: int) -> Any:
        """`[batch, n]` with the result of a function for the rows that are chosen, so many of them at a time."""
        (rows,) = np.nonzero(self.on_host(chosen))
        if not len(rows):
            return x
        parts = [self.int64(rows[start : start + together]) for start in range(0, len(rows), together)]
        made = [function(self.xp.take(x, part, axis=0)) for part in parts]
        places = np.arange(x.shape[0])
        places[rows] = x.shape[0] + np.arange(len(rows))
        return self.xp.take(self.xp.concat([x, *made], axis=0), self.int64(places), axis=0)

    def for_each(self, function: Callable[[Any], Any], constants: Any, _: Any) -> Any:
        """What a function makes of each row of constants, `[..., 1]`, side by side along the last axis."""
        return self.concat_last([function(constants[number]) for number in range(constants.shape[0])])

    def take_by_row(self, values: Any, places: Any) -> Any:
        """Of each row of `values`, `[rows, n]`, the ones at the places of its own, `[rows, m]`."""
        return self.xp.take_along_axis(values, places, axis=1)

    def take_flat(self, values: Any, places: Any) -> Any:
        """Of `[n]` values those at some places, in the places' shape."""
        return values[places]

    def count_below(self, boundaries: Any, values: Any, *, strict: bool) -> Any:
        """How many of the boundaries of a row are below each of its values; `strict` leaves out those that equal it."""
        side, rows = "left" if strict else "right", range(values.shape[0])
        return self.int64(self.xp.stack([self.xp.searchsorted(boundaries[n], values[n], side=side) for n in rows]))

    def divide_no_nan(self, x: Any, y: Any) -> Any:
        """The quotient; 0 where the divisor is 0."""
        xp = self.xp
        return xp.where(y == 0, self.float64(0), x / xp.where(y == 0, self.float64(1), y))

    def one_hot(self, x: Any, classes: int) -> Any:
        """1 at the number of a class and 0 elsewhere, float64."""
        return self.float64(self.int64(x)[..., None] == self.int64(np.arange(classes)))

    def rank(self, x: Any, constants: Mapping[str, Any]) -> tuple[Any, Any]:
        """The ranks of integers or strings in a vocabulary, int64, and whether it has them."""
        words, order = constants["vocabulary"], constants["order"]
        x = self.on_host(x)
        x = x.astype(words.dtype if words.dtype.kind != "S" else np.bytes_)
        places = np.minimum(np.searchsorted(words, x, sorter=order), max(len(words) - 1, 0))
        if not len(words):
            return self.int64(np.zeros(x.shape)), self.asarray(np.zeros(x.shape, np.bool_))
        ids = order[places]
        return self.int64(ids), self.asarray(words[ids] == x)

    def unknown_rank(self, x: Any, constants: Mapping[str, Any], buckets: int) -> Any:
        """The number for what a vocabulary has not: one of some buckets after its ranks, by a hash, or -1."""
        size = len(constants["vocabulary"])
        if buckets < 2:
            return self.int64(size if buckets else -1)
        x = self.on_host(x)
        text = x if x.dtype.kind in "OS" else x.astype(np.int64).astype(np.bytes_)
        return self.int64(size + _hashes(text.astype(object), buckets))

    def pick(self, array: npt.NDArray[Any], groups: npt.NDArray[Any], keys: Any, name: str) -> Any:
        """The constants of each row's group; those of the last place for a group that is not known, if there is one."""
        keys = self.on_host(keys)
        keys = _hashes(keys.astype(object)) if keys.dtype.kind in "SUO" else keys.astype(np.int64)
        places = np.minimum(np.searchsorted(groups, keys), len(groups) - 1)
        known = groups[places] == keys
        if len(array) > len(groups):
            places = np.where(known, places, len(groups))
        elif not known.all():
            raise ValueError(f"feature {name}: expected keys of groups that are known; found {keys[~known][0]}")
        return self.float64(np.asarray(array, np.float64)[places])

    def rows(self, values: Any) -> Any:
        """The numbers of the rows."""
        return self.int64(np.arange(values.shape[0]))

    def erfc(self, values: Any) -> Any:
        """The complementary error function."""
        return np.asarray(np.frompyfunc(math.erfc, 1, 1)(values), np.float64)

    def ndtri(self, values: Any) -> Any:
        """The quantiles of the standard normal distribution, of values above 0 and below 1; NaN is NaN."""
        inverse = statistics.NormalDist().inv_cdf
        found = np.frompyfunc(lambda value: inverse(value) if value == value else value, 1, 1)(values)
        return np.asarray(found, np.float64)

    def inverse_tukey_hh(self, x: Any, left: Any, right: Any) -> Any:
        """The u with x = u exp(h u^2), where h is `left` below 0 and `right` from 0 on."""
        xp = self.xp
        parameter = xp.where(x < 0, left, right)
        squared = parameter * x * x
        straight = squared < 1e-7  # where u differs from x by less than 1e-14 of it
        squared, parameter = (xp.where(straight, self.float64(1), array) for array in (squared, parameter))
        bent = xp.sqrt(self._lambert_w(squared) / parameter)
        return xp.where(straight, x, xp.where(x < 0, -bent, bent))

    def _lambert_w(self, x: Any) -> Any:
        """The w with w exp(w) = x, for x above 0, by Newton's method."""
        xp = self.xp
        log = xp.log(xp.where(x < math.e, self.float64(math.e), x))
        slope = (math.e - 1) / (math.e**2 - 1)
        w = xp.where(x < math.e, slope * x + (1 - slope) / math.e, log + (1 / log - 1) * xp.log(log))
        w = xp.where(x < 1 / math.e, x, w)
        for _ in range(NEWTON_STEPS):
            power = xp.exp(w)
            w = w - (w * power - x) / (power + w * power)
        return w

    def project(self, values: Any, components: Any) -> Any:
        """[batch, …, k] times [batch or 1, …, k, w]."""
        flat = self.reshape(values, (values.shape[0], -1, values.shape[-1]))
        components = self.reshape(components, (-1, *components.shape[-2:]))
        return self.reshape(self.xp.matmul(flat, components), (*values.shape[:-1], components.shape[-1]))


class TorchOps(ArrayOps):
    """In PyTorch, on the device of the tensors."""

    def __init__(self, like: Any) -> None:
        """Makes the operations for tensors that lie where one does.

        Raises:
            ImportError: If array-api-compat is not there, by which PyTorch speaks the standard.
        """
        try:
            import array_api_compat.torch as xp
        except ImportError as error:
            raise ImportError("PyTorch's tensors need array-api-compat: pip install 'npyflow[torch]'") from error
        self.xp, self._device, self._special = xp, like.device, sys.modules["torch"].special

    def on_host(self, values: Any) -> npt.NDArray[Any]:
        return np.asarray(values.cpu() if hasattr(values, "cpu") else values)

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        if isinstance(values, np.ndarray) and not values.flags.writeable:  # of which PyTorch warns
            values = values.copy()
        return self.xp.asarray(values, dtype=dtype, device=self._device)

    def erfc(self, values: Any) -> Any:
        return self._special.erfc(values)

    def ndtri(self, values: Any) -> Any:
        return self._special.ndtri(values)


class JaxOps(ArrayOps):
    """In JAX. Unless `jax_enable_x64` is set, what leaves has 32 bits, computed with 64."""

    def __init__(self, like: Any) -> None:
        """Makes the operations for arrays of JAX."""
        import jax

        self.xp, self._jax, self._wide = jax.numpy, jax, jax.config.jax_enable_x64

    def precise(self) -> contextlib.AbstractContextManager[Any]:
        # Since JAX 0.8 it is no experiment.
        known = self._jax if hasattr(self._jax, "enable_x64") else self._jax.experimental
        return known.enable_x64(True)  # type: ignore[no-any-return]  # jax is optional, so mypy may not see it

    def leave(self, values: Any, dtype: npt.DTypeLike) -> Any:
        name = np.dtype(dtype).name
        return super().leave(values, name if self._wide else {"float64": "float32", "int64": "int32"}.get(name, name))

    def erfc(self, values: Any) -> Any:
        return self._jax.scipy.special.erfc(values)

    def ndtri(self, values: Any) -> Any:
        return self._jax.scipy.special.ndtri(values)


def _hashes(strings: npt.NDArray[Any], buckets: int = 2**63 - 1) -> npt.NDArray[np.int64]:
    """FarmHash fingerprints of strings, int64 from 0 on: the keys that groups of strings have.

    Raises:
        ImportError: If TensorFlow is not there, which has the function.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "groups of strings, and buckets for words that a vocabulary has not, need TensorFlow"
        ) from error
    return np.asarray(tf.strings.to_hash_bucket_fast(strings, buckets).numpy(), np.int64)


class TensorFlowOps(ArrayOps):
    """What inverses need, in TensorFlow."""

    def __init__(self) -> None:
        """Imports TensorFlow."""
        import tensorflow as tf

        self._tf = tf
        self.xp = tf.experimental.numpy

    def cast(self, values: Any, dtype: str) -> Any:
        return self._tf.cast(values, dtype)

    def take_flat(self, values: Any, places: Any) -> Any:
        return self._tf.gather(values, places)

    def pick(self, array: npt.NDArray[Any], groups: npt.NDArray[Any], keys: Any, name: str) -> Any:
        tf = self._tf
        keys = tf.convert_to_tensor(keys)
        keys = tf.strings.to_hash_bucket_fast(keys, 2**63 - 1) if keys.dtype == tf.string else tf.cast(keys, tf.int64)
        known_keys = tf.constant(groups, tf.int64)
        places = tf.minimum(tf.searchsorted(known_keys, keys), len(groups) - 1)
        known = tf.gather(known_keys, places) == keys
        if len(array) > len(groups):
            places = tf.where(known, places, len(groups))
        else:
            message = f"feature {name}: expected keys of groups that are known"
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), [message, keys])]):
                places = tf.identity(places)
        return tf.gather(tf.constant(array, tf.float64), places)

    def rows(self, values: Any) -> Any:
        return self._tf.range(self._tf.shape(values, out_type=self._tf.int64)[0])

    def erfc(self, values: Any) -> Any:
        return self._tf.math.erfc(values)

    def project(self, values: Any, components: Any) -> Any:
        tf = self._tf
        shape = tf.shape(values)
        components = tf.reshape(components, [-1, *components.shape[-2:]])
        result = tf.matmul(tf.reshape(values, [shape[0], -1, values.shape[-1]]), components)
        return tf.reshape(result, tf.concat([shape[:-1], [components.shape[-1]]], 0))
