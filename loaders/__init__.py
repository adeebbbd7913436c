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
    from loaders.tensorflow.keras import BackupAndRestore, KerasState, track
    from loaders.tensorflow.loader import Loader, load
    from loaders.tensorflow.tfrecords import tfrecords
    from loaders.transform.forward import Forward, forward
    from loaders.transform.inverse import Inverse, inverse
    from loaders.transform.layer import TransformLayer
    from loaders.transform.scikit_learn import FeatureTransformer

_HOMES = {
    "loaders.data_set": "DataSet open",
    "loaders.format.manifest": "Manifest ManifestError",
    "loaders.format.decode": "RecordError",
    "loaders.format.spec": "FeatureSpec",
    "loaders.order.epoch": "ShardOptions",
    "loaders.order.split_slices": "fold",
    "loaders.order.state": "StateError",
    "loaders.reading.prefetch": "AUTOTUNE",
    "loaders.reading.rows": "Rows",
    "loaders.sampling.mixture": "Mixture",
    "loaders.sampling.packed": "Packed",
    "loaders.sampling.weighted": "WeightedLoader balanced",
    "loaders.storage.damaged_records": "DamagedRecord",
    "loaders.storage.store": "ShardError",
    "loaders.tensorflow.keras": "BackupAndRestore KerasState track",
    "loaders.tensorflow.loader": "Loader load",
    "loaders.tensorflow.tfrecords": "tfrecords",
    "loaders.transform.scikit_learn": "FeatureTransformer",
    "loaders.transform.forward": "Forward forward",
    "loaders.transform.inverse": "Inverse inverse",
    "loaders.transform.layer": "TransformLayer",
}
"""The public names in each module."""

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
    return sorted(name for name in __all__ if not missing.intersection(_home(name).split(".")))


def _home(name: str) -> str:
    """The module that a public name is in, or is."""
    return next((module for module, names in _HOMES.items() if name in names.split()), f"loaders.{name}")


def __getattr__(name: str) -> Any:
    """Imports what is first named."""
    if name not in __all__:
        raise AttributeError(f"module 'loaders' has no attribute {name!r}")
    home = _home(name)
    module = importlib.import_module(home)
    return module if home == f"loaders.{name}" else getattr(module, name)
