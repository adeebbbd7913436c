"""Values between the stages of an analyzer as arrays: states, constants, and accumulators in tf.transform's cache."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_transform as tft

from pipelines.storage.pickled import load_statistics

Arrays = Mapping[str, npt.NDArray[Any]]


def dump(value: Any) -> bytes:
    """A state or an accumulator: dataclasses and tuples of arrays."""
    return pickle.dumps(value, protocol=5)


def load(data: bytes) -> Any:
    """Reads what `dump` returned.

    Raises:
        pickle.UnpicklingError: If there is something else in it than arrays and their dataclasses.
    """
    return load_statistics(data)


class CacheCoder(tft.experimental.PTransformAnalyzerCacheCoder):  # type: ignore[misc]
    """Accumulators in the cache of `AnalyzeDatasetWithCache`."""

    def encode_cache(self, accumulator: Any) -> bytes:
        """An accumulator as bytes."""
        return dump(accumulator)

    def decode_cache(self, encoded_accumulator: bytes) -> Any:
        """The accumulator of some bytes."""
        return load(encoded_accumulator)


def pack(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """Arrays as one vector of 64-bit integers: their sizes, and then they, floats by their bits.

    One vector, as an analyzer that tf.transform may cache has one output.
    """
    parts = [
        np.ravel(array).astype(np.int64)
        if array.dtype.kind in "biu"
        else np.ravel(array).astype(np.float64).view(np.int64)
        for array in arrays
    ]
    return np.concatenate([np.array([len(part) for part in parts], np.int64), *parts])
