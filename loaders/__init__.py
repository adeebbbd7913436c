"""Loads data sets into `tf.data`; `loaders.numpy`, `loaders.torch` and `loaders.jax` read them without TensorFlow.

Importing this package imports neither TensorFlow nor any other framework: each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loaders import augment, jax, numpy, torch
    from loaders.data_set import DataSet, open
    from loaders.format.decode import RecordError
    from loaders.format.manifest import Manifest, ManifestError
    from loaders.format.spec import FeatureSpec
    from loaders.order.epoch import ShardOptions
    from loaders.order.split_slices import fold
    from loaders.order.state import StateError
    from loaders.reading.prefetch import AUTOTUNE
    from loaders.reading.rows import Rows
    from loaders.sampling.mixture import Mixture
    from loaders.sampling.packed import Packed
    from loaders.sampling.weighted import WeightedLoader, balanced
    from loaders.storage.damaged_records import DamagedRecord
    from loaders.storage.store import ShardError
    from loaders.tensorflow.dataset import load
    from loaders.tensorflow.keras import BackupAndRestore, KerasState, track
    from loaders.tensorflow.loader import Loader
    from loaders.tensorflow.tfrecords import tfrecords
    from loaders.transform.forward import Forward, forward
    from loaders.transform.inverse import Inverse, inverse
    from loaders.transform.layer import TransformLayer
    from loaders.transform.scikit_learn import FeatureTransformer

_HOMES = {
    "AUTOTUNE": "loaders.reading.prefetch",
    "BackupAndRestore": "loaders.tensorflow.keras",
    "DamagedRecord": "loaders.storage.damaged_records",
    "DataSet": "loaders.data_set",
    "FeatureSpec": "loaders.format.spec",
    "FeatureTransformer": "loaders.transform.scikit_learn",
    "Forward": "loaders.transform.forward",
    "Inverse": "loaders.transform.inverse",
    "KerasState": "loaders.tensorflow.keras",
    "Loader": "loaders.tensorflow.loader",
    "Manifest": "loaders.format.manifest",
    "ManifestError": "loaders.format.manifest",
    "Mixture": "loaders.sampling.mixture",
    "Packed": "loaders.sampling.packed",
    "RecordError": "loaders.format.decode",
    "Rows": "loaders.reading.rows",
    "ShardError": "loaders.storage.store",
    "ShardOptions": "loaders.order.epoch",
    "StateError": "loaders.order.state",
    "TransformLayer": "loaders.transform.layer",
    "WeightedLoader": "loaders.sampling.weighted",
    "balanced": "loaders.sampling.weighted",
    "fold": "loaders.order.split_slices",
    "forward": "loaders.transform.forward",
    "inverse": "loaders.transform.inverse",
    "load": "loaders.tensorflow.dataset",
    "open": "loaders.data_set",
    "tfrecords": "loaders.tensorflow.tfrecords",
    "track": "loaders.tensorflow.keras",
}
"""The module that each public name is in."""

_MODULES = ("augment", "jax", "numpy", "torch")

__all__ = [
    "AUTOTUNE",
    "BackupAndRestore",
    "DamagedRecord",
    "DataSet",
    "FeatureSpec",
    "FeatureTransformer",
    "Forward",
    "Inverse",
    "KerasState",
    "Loader",
    "Manifest",
    "ManifestError",
    "Mixture",
    "Packed",
    "RecordError",
    "Rows",
    "ShardError",
    "ShardOptions",
    "StateError",
    "TransformLayer",
    "WeightedLoader",
    "augment",
    "balanced",
    "fold",
    "forward",
    "inverse",
    "jax",
    "load",
    "numpy",
    "open",
    "tfrecords",
    "torch",
    "track",
]


def __dir__() -> list[str]:
    """The public names, but those of a framework that is not installed: `help` would fail at them."""
    needs = {"tensorflow": "tensorflow", "torch": "torch", "jax": "jax", "layer": "keras"}
    missing = {part for part, package in needs.items() if importlib.util.find_spec(package) is None}
    home = {name: set(_HOMES.get(name, f"loaders.{name}").split(".")) for name in __all__}
    return sorted(name for name in __all__ if not home[name] & missing)


def __getattr__(name: str) -> Any:
    """Imports what is first named."""
    if name in _MODULES:
        return importlib.import_module(f"loaders.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'loaders' has no attribute {name!r}")
