"""Applies the transform of a data set to batches, where the shards hold features as they are in the sources."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Callable, Collection, Mapping
from typing import Any

try:
    import tensorflow as tf
except ImportError as error:
    raise ImportError("the transform of a data set needs TensorFlow: pip install 'npyflow[tensorflow]'") from error

from loaders.format.manifest import Manifest, ManifestError
from loaders.format.names import INDICATOR_SUFFIX
from loaders.format.savedmodel import load_model, read_model
from loaders.format.spec import FeatureSpec
from loaders.reading.columns import LENGTH_SUFFIX
from loaders.storage.files import read_bytes

Tensors = dict[str, Any]

FLOAT64_SUFFIX = "/float64_bits"
"""tf.transform's schema knows no float64, so a float64 output leaves the graph as int64 of the same bits."""


class Transform:
    """A function from batches of what the shards hold to batches of transformed features.

    Attributes:
        features: The features of a transformed batch, sorted by name.
        inputs: The names of the features that the SavedModel takes, and needs.
    """

    def __init__(self, root: str, manifest: Manifest, *, trust: bool = False) -> None:
        """Loads the SavedModel, which may do more than compute where it is trusted.

        Raises:
            ManifestError: If the data set holds no feature as it is in the sources, or its SavedModel is not as the
                manifest lists it, or does more than compute.
        """
        if manifest.transformed is None:
            raise ManifestError(f"{root}: expected a data set with a feature of `store: raw`; found none")
        self.features = manifest.transformed
        self._stored = {feature.name: feature for feature in manifest.features}
        config = manifest.config["features"]
        self._raw = {name for name in self._stored if config.get(name, {}).get("store") == "raw"}
        self._model, self._signature = None, {}
        if manifest.transform is not None:
            contents = read_model(
                manifest, lambda name: read_bytes(posixpath.join(root, name)) or b"", root=root, trust=trust
            )
            self._model = load_model(contents)
            self._signature = _input_signature(self._model.transform_fn)
        self.inputs = frozenset(self._signature)

    def only(self, names: Collection[str]) -> Transform:
        """The transform of these features alone, which takes what they are made of."""
        chosen = copy.copy(self)
        chosen.features = tuple(feature for feature in self.features if feature.name in names)
        if self._model is not None:
            made = {name for name in names if name in self._raw or name not in self._stored}
            made |= {name + FLOAT64_SUFFIX for name in made}
            chosen.inputs = _inputs_of(self._model.transform_fn, made)
        return chosen

    def __call__(self, batch: Mapping[str, Any]) -> Tensors:
        """Transforms a batch.

        Args:
            batch: What `loaders.load(..., transform=False)` yields: a tensor for each stored feature's name.

        Returns:
            A tensor of shape [batch, *shape] for each name of `features`, in its dtype; a padded feature's lengths
            pass by.
        """
        outputs = {}
        if self._model is not None and self.inputs:
            rows = _rows(next(iter(batch.values())))
            outputs = self._model.transform_fn(
                {name: self._input(name, spec, batch, rows) for name, spec in self._signature.items()}
            )
        result = {}
        for feature in self.features:
            result[feature.name] = self._output(feature, outputs, batch)
            length = _source(feature.name, batch) + LENGTH_SUFFIX
            if feature.ragged and length in batch:
                result[feature.name + LENGTH_SUFFIX] = batch[length]
        return result

    def _input(self, name: str, spec: tf.TensorSpec, batch: Mapping[str, Any], rows: tf.Tensor) -> tf.Tensor:
        """The raw values of a feature; zeros where they are not there, as nothing that is used needs them."""
        stored = self._stored.get(name)
        if name in batch and stored is not None:
            values = _flat(name, batch) if stored.ragged else batch[name]
            strings = (values.dtype == tf.string, spec.dtype == tf.string)
            if spec.shape.is_compatible_with(values.shape) and strings[0] == strings[1]:
                return values if strings[0] else tf.cast(values, spec.dtype)
        return tf.zeros(tf.stack([rows, *spec.shape[1:]]), spec.dtype)

    def _output(self, feature: FeatureSpec, outputs: Mapping[str, tf.Tensor], batch: Mapping[str, Any]) -> Any:
        """One feature of a transformed batch."""
        name, given = feature.name, None
        if name in self._raw or name not in self._stored:
            given = outputs.get(name)
            if name + FLOAT64_SUFFIX in outputs:
                given = tf.bitcast(outputs[name + FLOAT64_SUFFIX], tf.float64)
        if given is None:  # it passes by, in its own dtype
            values = batch[name]
            return values if values.dtype.name == feature.dtype else tf.cast(values, feature.dtype)
        values = given if given.dtype.name == feature.dtype else tf.cast(given, feature.dtype)
        if feature.ragged:
            return _like(_source(name, batch), values, batch)
        return tf.ensure_shape(values, [None, *feature.shape])


def on_device(transform: Transform) -> Callable[[Mapping[str, Any]], Tensors]:
    """A `tf.function` of a transform that runs where the batch lies."""
    compiled = tf.function(transform.__call__, autograph=False, reduce_retracing=True)

    def run(batch: Mapping[str, Any]) -> Tensors:
        values = next(iter(batch.values()))
        device = getattr(values.flat_values if isinstance(values, tf.RaggedTensor) else values, "device", None)
        with tf.device(device or None):
            return dict(compiled(dict(batch)))

    return run


def _concrete(function: Any) -> Any:
    return function if hasattr(function, "structured_input_signature") else function.concrete_functions[0]


def _input_signature(function: Any) -> dict[str, tf.TensorSpec]:
    """The names and specs that the one argument of a loaded function has, a dict."""
    (inputs,), _ = _concrete(function).structured_input_signature
    return dict(inputs)


def _inputs_of(function: Any, names: Collection[str]) -> frozenset[str]:
    """The names of the inputs that outputs of a loaded function are made of. TensorFlow sorts dicts by name."""
    concrete = _concrete(function)
    inputs = dict(zip((tensor.op.name for tensor in concrete.inputs), sorted(_input_signature(function)), strict=False))
    outputs = zip(sorted(concrete.structured_outputs), concrete.outputs, strict=True)
    left = [tensor.op for name, tensor in outputs if name in names]
    seen: set[str] = set()
    while left:
        operation = left.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            left += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return frozenset(name for operation, name in inputs.items() if operation in seen)


def _source(name: str, batch: Mapping[str, Any]) -> str:
    """The feature of a batch that gives another its lengths: itself, or the one whose missing values it tells."""
    return name if name in batch else name.removesuffix(INDICATOR_SUFFIX)


def _rows(values: Any) -> tf.Tensor:
    return values.nrows(tf.int32) if isinstance(values, tf.RaggedTensor) else tf.shape(values)[0]


def _mask(name: str, batch: Mapping[str, Any]) -> tf.Tensor:
    """Which steps of a padded feature are there: bool of shape [batch, length]."""
    return tf.sequence_mask(batch[name + LENGTH_SUFFIX], tf.shape(batch[name])[1])


def _flat(name: str, batch: Mapping[str, Any]) -> tf.Tensor:
    """The steps of all rows of a ragged feature one after the other: [steps, *inner shape]."""
    values = batch[name]
    return values.flat_values if isinstance(values, tf.RaggedTensor) else tf.boolean_mask(values, _mask(name, batch))


def _like(name: str, flat: tf.Tensor, batch: Mapping[str, Any]) -> Any:
    """The inverse of `_flat`: other values for the same steps."""
    values = batch[name]
    if isinstance(values, tf.RaggedTensor):
        return values.with_flat_values(flat)
    mask, lengths = _mask(name, batch), batch[name + LENGTH_SUFFIX]
    first = tf.cumsum(lengths, exclusive=True)[:, tf.newaxis]
    column = tf.range(tf.shape(values, out_type=tf.int64)[1])
    # What is after a row's end is the one step more that the flat values get, of zeros.
    places = tf.where(mask, first + column, tf.shape(flat, out_type=tf.int64)[0])
    return tf.gather(tf.concat([flat, tf.zeros([1, *flat.shape[1:]], flat.dtype)], 0), places)
