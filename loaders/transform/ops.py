"""What inverses are made of beside NumPy's functions, in NumPy and in TensorFlow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


class Ops:
    """In NumPy.

    Attributes:
        xp: The functions that NumPy and TensorFlow both have.
    """

    xp: Any = np

    def float64(self, values: Any) -> Any:
        """Values as float64."""
        return np.asarray(values, np.float64)

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

    def rows(self, values: Any) -> Any:
        """The numbers of the rows."""
        return np.arange(values.shape[0])

    def erfc(self, values: Any) -> Any:
        """The complementary error function."""
        return np.asarray(np.frompyfunc(math.erfc, 1, 1)(values), np.float64)

    def project(self, values: Any, components: Any) -> Any:
        """[batch, …, k] times [batch or 1, k, w]."""
        flat = np.reshape(values, (len(values), -1, values.shape[-1]))
        return np.reshape(np.matmul(flat, components), (*values.shape[:-1], components.shape[-1]))


def _hashes(strings: Any) -> Any:
    """Strings as the keys that groups of strings have: FarmHash fingerprints, int64 from 0 on."""
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(strings, 2**63 - 1)


class TensorFlowOps(Ops):
    """The same in TensorFlow."""

    def __init__(self) -> None:
        """Imports TensorFlow."""
        import tensorflow as tf

        self._tf = tf
        self.xp = tf.experimental.numpy

    def float64(self, values: Any) -> Any:
        """Values as float64."""
        return self._tf.cast(values, self._tf.float64)

    def pick(self, array: npt.NDArray[Any], groups: npt.NDArray[Any], keys: Any, name: str) -> Any:
        """As in NumPy."""
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

    def rows(self, values: Any) -> Any:
        """The numbers of the rows."""
        return self._tf.range(self._tf.shape(values, out_type=self._tf.int64)[0])

    def erfc(self, values: Any) -> Any:
        """The complementary error function."""
        return self._tf.math.erfc(values)

    def project(self, values: Any, components: Any) -> Any:
        """[batch, …, k] times [batch or 1, k, w]."""
        tf = self._tf
        shape = tf.shape(values)
        result = tf.matmul(tf.reshape(values, [shape[0], -1, values.shape[-1]]), components)
        return tf.reshape(result, tf.concat([shape[:-1], [components.shape[-1]]], 0))
