"""The transform of a data set as a Keras layer, which is saved with the model: a model then takes raw features."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import keras  # type: ignore[import-untyped]
import msgspec
import numpy as np
import numpy.typing as npt

from loaders.format import names
from loaders.format.spec import FeatureSpec
from loaders.storage.files import read_arrays, read_manifest
from loaders.transform.forward import Forward, forward
from loaders.transform.keras_ops import KerasOps


@keras.saving.register_keras_serializable(package="npyflow")
class TransformLayer(keras.layers.Layer):  # type: ignore[misc]
    """Maps a dict of raw features to a dict of transformed ones, on any backend of Keras.

    `from_data_set` makes it. What was learned is saved with the model, which then needs no data set. Features of text,
    and ragged ones, are not for it. The values are those of `loaders.forward` to the last bits of float64; on JAX,
    unless `jax_enable_x64` is set, to those of float32.

    Args:
        steps: What the configuration says of each feature.
        features: What the layer gives.
        sources: The features as the sources have them.
        **options: Those of any layer.
    """

    def __init__(
        self,
        steps: Mapping[str, Any],
        features: Collection[Mapping[str, Any]],
        sources: Collection[Mapping[str, Any]],
        **options: Any,
    ) -> None:
        super().__init__(autocast=False, trainable=False, **options)
        self.steps, self.features, self.sources = dict(steps), list(features), list(sources)
        self.built = True
        self._take_constants({})

    @classmethod
    def from_data_set(
        cls, root: str | os.PathLike[str], features: Collection[str] | None = None, **options: Any
    ) -> TransformLayer:
        """Makes the layer of what a data set has learned.

        Args:
            root: The directory of a finished build, in any file system that fsspec reads.
            features: The features that it is to give; None for all.
            **options: Those of any layer.

        Raises:
            ManifestError: As `loaders.forward`.
            ValueError: If there is no such feature, or one is of text or ragged.
        """
        made = forward(root)
        given = [spec.name for spec in made.features]
        for name in features or ():
            if name not in given:
                raise ValueError(f"expected features of {', '.join(given)}; found {name}")
        made = made.only(given if features is None else features)
        sources = [made.sources[name] for name in made.inputs]
        for spec in (*made.features, *sources):
            if spec.dtype == "string" or spec.ragged or spec.numpy_dtype.kind == "c":
                kind = "ragged" if spec.ragged else spec.dtype
                raise ValueError(f"feature {spec.name}: expected one of real numbers, of one shape; found {kind}")
        manifest = read_manifest(root)
        fitted = read_arrays(root, manifest, names.FITTED) or {}
        layer = cls(
            {name: manifest.config["features"][name] for name in made.inputs},
            list(map(dataclasses.asdict, made.features)),
            list(map(dataclasses.asdict, sources)),
            **options,
        )
        layer._take_constants({key: array for key, array in fitted.items() if key.rsplit("/", 2)[0] in made.inputs})
        return layer

    def call(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Transforms a batch of raw features, tensors of shape [batch, *shape]."""
        return self._forward({source.name: batch[source.name] for source in self._forward.sources.values()}, KerasOps())

    def compute_output_spec(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The shapes and dtypes of what it gives."""
        rows = next(iter(batch.values())).shape[0]
        return {spec.name: keras.KerasTensor((rows, *spec.shape), dtype=spec.dtype) for spec in self._forward.features}

    def get_config(self) -> dict[str, Any]:
        """The arguments that the layer is made with."""
        described = {"steps": self.steps, "features": self.features, "sources": self.sources}
        config: dict[str, Any] = {key: value for key, value in super().get_config().items() if key != "trainable"}
        config |= json.loads(json.dumps(described))
        return config

    def save_own_variables(self, store: Any) -> None:
        """Saves what was learned."""
        file = io.BytesIO()
        np.savez(file, **self._fitted)  # type: ignore[arg-type]  # the stubs take keywords for an option
        store["fitted"] = np.frombuffer(file.getvalue(), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Loads it."""
        with np.load(io.BytesIO(np.asarray(store["fitted"]).tobytes()), allow_pickle=False) as arrays:
            self._take_constants(dict(arrays))

    def _take_constants(self, fitted: Mapping[str, npt.NDArray[Any]]) -> None:
        self._fitted = dict(fitted)
        features, sources = msgspec.convert([self.features, self.sources], list[list[FeatureSpec]])
        self._forward = Forward({"features": self.steps}, fitted, features=features, sources=sources)
