"""The inverse of the transform: from transformed values back to raw ones, in NumPy and in TensorFlow."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import ManifestError
from loaders.storage.files import read_arrays, read_manifest

FITTED_FILE = "fitted.npz"

EDGE = 1e-7
"""How near to 0 and 1 a probability counts as one of them, as in scikit-learn."""


class Inverse:
    """Maps transformed values back to raw ones."""

    def __init__(self, config: Mapping[str, Any], fitted: Mapping[str, npt.NDArray[Any]]) -> None:
        """Makes the inverse of the transform that a configuration describes.

        Args:
            config: The resolved configuration of the data set.
            fitted: The constants of the transform, by `<feature>/<step number>/<constant>`.
        """
        self._features: Mapping[str, Any] = config["features"]
        self._fitted = fitted

    def __call__(self, name: str, values: Any, keys: Any = None) -> Any:
        """Inverts the normalisation of a feature, its last step first. What was imputed or clipped stays so.

        Args:
            name: The feature.
            values: `np.ndarray`, `tf.Tensor` or `tf.RaggedTensor` of transformed values, [batch, *shape].
            keys: The groups of the rows, integers or strings of shape [batch], where each group has its own constants.

        Returns:
            float64 raw values, of the same kind as `values`: [batch, *shape], where a projection gives the last axis
            the length that it has in the sources.

        Raises:
            ManifestError: If the data set lacks a constant.
            ValueError: If there is no such feature, a step has no inverse, or groups are missing or not known.
        """
        if name not in self._features:
            raise ValueError(f"there is no feature {name!r}; the features are {', '.join(self._features)}")
        steps = _steps(self._features[name].get("normalize"))
        for number, (method, _) in enumerate(steps):
            if method not in _INVERSES:
                raise ValueError(f"feature {name}: expected steps that have an inverse; found {method} (step {number})")
        ops: _Numpy = _Numpy() if isinstance(values, np.ndarray | np.generic) else _TensorFlow()
        if hasattr(values, "with_flat_values"):  # a tf.RaggedTensor, of which each step is inverted by itself
            return values.with_flat_values(self(name, values.flat_values, keys))
        values = ops.float64(values)
        for number, (method, argument) in reversed(list(enumerate(steps))):
            constants = self._constants(name, number, keys, values, ops)
            values = _INVERSES[method](ops, values, constants, argument)
        return values

    def _constants(self, name: str, number: int, keys: Any, values: Any, ops: _Numpy) -> _Constants:
        prefix = f"{name}/{number}/"
        found = {key.removeprefix(prefix): array for key, array in self._fitted.items() if key.startswith(prefix)}
        groups = found.pop("keys", None)
        if groups is None:
            return _Constants(prefix, {key: ops.float64(array[None]) for key, array in found.items()}, values)
        if keys is None:
            raise ValueError(f"feature {name}: expected keys, the groups of the rows, as each group has its constants")
        picked = {key: ops.pick(array, groups, keys, name) for key, array in found.items()}
        return _Constants(prefix, picked, values)


class _Constants:
    """The constants of a step, as they broadcast against [batch, *shape]; the first axis is 1 long, or the batch."""

    def __init__(self, prefix: str, found: Mapping[str, Any], values: Any) -> None:
        self._prefix = prefix
        self._found = found
        self._rank = len(values.shape)

    def get(self, ops: _Numpy, name: str, *, before: int = 0) -> Any:
        """A constant, with `before` more axes between the batch and those of the statistic."""
        array = self.raw(name)
        shape = tuple(array.shape)[1:]
        missing = self._rank - 1 + before - len(shape)
        return ops.reshape(array, [-1, *shape[:before], *[1] * missing, *shape[before:]]) if missing else array

    def raw(self, name: str) -> Any:
        """A constant in the shape that it has, after the batch.

        Raises:
            ManifestError: If there is none.
        """
        if name not in self._found:
            raise ManifestError(f"{FITTED_FILE}: expected the constant {self._prefix}{name}; found none")
        return self._found[name]


def inverse(root: str | os.PathLike[str]) -> Inverse:
    """Reads how to get from transformed values back to raw ones.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.

    Returns:
        A function `inverse(name, values)` of a feature's name and its transformed values, `np.ndarray`,
        `tf.Tensor` or `tf.RaggedTensor`.

    Raises:
        ManifestError: If it is not a finished data set, or is of a format version that this reader does not know.
    """
    fitted = read_arrays(posixpath.join(os.fspath(root), FITTED_FILE))
    return Inverse(read_manifest(root).config, fitted or {})


def _steps(normalize: Any) -> list[tuple[str, Any]]:
    """The steps of a configuration: the name of each, and what the user said of it."""
    if normalize is None or normalize == "none":
        return []
    steps = normalize if isinstance(normalize, list) else [normalize]
    return [(step, None) if isinstance(step, str) else next(iter(step.items())) for step in steps]


class _Numpy:
    """What the inverses are made of, in NumPy."""

    def float64(self, values: Any) -> Any:
        return np.asarray(values, np.float64)

    def reshape(self, values: Any, shape: list[int]) -> Any:
        return np.reshape(values, shape)

    def pick(self, array: npt.NDArray[Any], groups: npt.NDArray[Any], keys: Any, name: str) -> Any:
        """The constants of each row's group; those of the last place for a group that is not known, if there is one."""
        keys = np.asarray(keys)
        if keys.dtype.kind in "SUO":
            keys = _hashes(keys.astype(object)).numpy()
        places = np.minimum(np.searchsorted(groups, keys), len(groups) - 1)
        known = groups[places] == keys
        if len(array) > len(groups):
            places = np.where(known, places, len(groups))
        elif not known.all():
            raise ValueError(f"feature {name}: expected keys of groups that are known; found {keys[~known][0]}")
        return np.asarray(array, np.float64)[places]

    def take(self, values: Any, places: Any) -> Any:
        return np.reshape(values, -1)[places]

    def places(self, values: Any, last: int) -> Any:
        """Numbers rounded down to integers between 0 and `last`; 0 for NaN."""
        return np.clip(np.floor(np.nan_to_num(values)), 0, last).astype(np.int64)

    def rows(self, values: Any) -> Any:
        return np.arange(values.shape[0])

    def clip(self, values: Any) -> Any:
        return np.clip(values, 0.0, 1.0)

    def where(self, condition: Any, first: Any, second: Any) -> Any:
        return np.where(condition, first, second)

    def expm1(self, values: Any) -> Any:
        return np.expm1(values)

    def erfc(self, values: Any) -> Any:
        return np.asarray(np.frompyfunc(math.erfc, 1, 1)(values), np.float64)

    def project(self, values: Any, components: Any) -> Any:
        """[batch, …, k] times [batch or 1, k, w]."""
        flat = np.reshape(values, (len(values), -1, values.shape[-1]))
        return np.reshape(np.matmul(flat, components), (*values.shape[:-1], components.shape[-1]))


def _hashes(strings: Any) -> Any:
    """Strings as the keys that groups of strings have: FarmHash fingerprints, int64 from 0 on."""
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(strings, 2**63 - 1)


class _TensorFlow(_Numpy):
    """The same in TensorFlow."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._tf = tf

    def float64(self, values: Any) -> Any:
        return self._tf.cast(values, self._tf.float64)

    def reshape(self, values: Any, shape: list[int]) -> Any:
        return self._tf.reshape(values, shape)

    def pick(self, array: npt.NDArray[Any], groups: npt.NDArray[Any], keys: Any, name: str) -> Any:
        tf = self._tf
        keys = tf.convert_to_tensor(keys)
        keys = _hashes(keys) if keys.dtype == tf.string else tf.cast(keys, tf.int64)
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

    def take(self, values: Any, places: Any) -> Any:
        return self._tf.gather(self._tf.reshape(values, [-1]), places)

    def places(self, values: Any, last: int) -> Any:
        tf = self._tf
        values = tf.where(tf.math.is_nan(values), tf.zeros_like(values), values)
        return tf.cast(tf.clip_by_value(tf.floor(values), 0, last), tf.int64)

    def rows(self, values: Any) -> Any:
        return self._tf.range(self._tf.shape(values, out_type=self._tf.int64)[0])

    def clip(self, values: Any) -> Any:
        return self._tf.clip_by_value(values, 0.0, 1.0)

    def where(self, condition: Any, first: Any, second: Any) -> Any:
        return self._tf.where(condition, first, second)

    def expm1(self, values: Any) -> Any:
        return self._tf.math.expm1(values)

    def erfc(self, values: Any) -> Any:
        return self._tf.math.erfc(values)

    def project(self, values: Any, components: Any) -> Any:
        tf = self._tf
        shape = tf.shape(values)
        flat = tf.reshape(values, [shape[0], -1, values.shape[-1]])
        result = tf.matmul(flat, components)
        return tf.reshape(result, tf.concat([shape[:-1], [components.shape[-1]]], 0))


def _shift_and_divisor(ops: _Numpy, y: Any, constants: _Constants, _: Any) -> Any:
    return y * constants.get(ops, "divisor") + constants.get(ops, "shift")


def _minmax(ops: _Numpy, y: Any, constants: _Constants, argument: Any) -> Any:
    low, high = argument or (0.0, 1.0)
    return _shift_and_divisor(ops, (y - low) / (high - low), constants, None)


def _maxabs(ops: _Numpy, y: Any, constants: _Constants, _: Any) -> Any:
    return y * constants.get(ops, "divisor")


def _quantile(ops: _Numpy, y: Any, constants: _Constants, argument: Any) -> Any:
    """Linear between quantiles. Source: scikit-learn's `QuantileTransformer.inverse_transform`."""
    if argument == "normal":
        y = 0.5 * ops.erfc(-y / math.sqrt(2.0))
        y = ops.where(y < EDGE, 0.0 * y, y)
        y = ops.where(y > 1.0 - EDGE, 0.0 * y + 1.0, y)
    quantiles = constants.get(ops, "quantiles", before=1)
    count, shape = quantiles.shape[1], tuple(quantiles.shape[2:])
    size = math.prod(shape)
    place = ops.where(y == y, ops.clip(y), y) * (count - 1)  # clipping may lose NaN
    below = ops.places(place, count - 2)
    part = place - ops.float64(below)
    # The quantiles of one statistic stand `size` apart, and those of one row of the batch `count * size`.
    first = ops.reshape(ops.rows(quantiles) * (count * size), [-1, *[1] * len(shape)])
    at = first + below * size + np.arange(size).reshape(shape)
    return (1.0 - part) * ops.take(quantiles, at) + part * ops.take(quantiles, at + size)


def _projection(ops: _Numpy, y: Any, constants: _Constants, _: Any) -> Any:
    return ops.project(y * constants.get(ops, "scale"), constants.raw("components")) + constants.get(ops, "mean")


_INVERSES: Mapping[str, Callable[[_Numpy, Any, _Constants, Any], Any]] = {
    "zscore": _shift_and_divisor,
    "robust": _shift_and_divisor,
    "minmax": _minmax,
    "maxabs": _maxabs,
    "scale": lambda ops, y, constants, argument: y / argument,
    "log1p": lambda ops, y, constants, argument: ops.expm1(y),
    "clip": lambda ops, y, constants, argument: y,
    "quantile": _quantile,
    "pca": _projection,
    "whiten": _projection,
}
