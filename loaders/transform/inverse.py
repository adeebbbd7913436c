"""The inverse of the transform: from transformed values back to raw ones, in NumPy and in TensorFlow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format import names
from loaders.format.manifest import ManifestError
from loaders.format.step_formulas import FORMULAS
from loaders.storage.files import read_arrays, read_manifest
from loaders.transform.ops import ArrayOps, TensorFlowOps, framework, ops_of


class Inverse:
    """Maps transformed values back to raw ones: the inverse of the transform that a resolved configuration describes.

    Args:
        config: The resolved configuration of the data set.
        fitted: The constants of the transform, by `<feature>/<step number>/<constant>`.
    """

    def __init__(self, config: Mapping[str, Any], fitted: Mapping[str, npt.NDArray[Any]]) -> None:
        self._features: Mapping[str, Any] = config["features"]
        self._function: str | None = config.get("preprocessing_fn")
        described = fitted.get(names.OF_FUNCTION)
        self._described = None if described is None else json.loads(described.tobytes())["outputs"]
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
        inverses = []
        for number, ((method, said), place) in enumerate(zip(*self._steps(name), strict=True)):
            formula = FORMULAS.get(method)
            if formula is None or formula.inverse is None:
                raise ValueError(f"feature {name}: expected steps that have an inverse; found {method} (step {number})")
            inverses.append((formula.inverse, said, place))
        if hasattr(values, "with_flat_values"):  # a tf.RaggedTensor, of which each step is inverted by itself
            return values.with_flat_values(self(name, values.flat_values, keys))
        ops = TensorFlowOps() if framework(values) == "tensorflow" else ops_of(values)
        with ops.precise():
            values = ops.float64(values)
            for inverted, said, place in reversed(inverses):
                values = inverted(values, self._constants(name, place, keys, values, ops), said, ops)
            return ops.leave(values, np.float64)

    def _steps(self, name: str) -> tuple[list[tuple[str, Any]], list[str]]:
        """The steps that a feature is made by, and where the constants of each stand.

        Raises:
            ValueError: If there is no such feature, or a function of the user's own makes it by something else.
        """
        made = (self._described or {}).get(name)
        if made is None and name not in self._features:
            there = dict.fromkeys([*self._features, *(self._described or {})])
            raise ValueError(f"there is no feature {name!r}; the features are {', '.join(there)}")
        expected = f"feature {name}: expected steps of pipelines.analyzers applied to one feature; {self._function}"
        if made is not None:
            if "found" in made:
                raise ValueError(f"{expected} makes it by the operation {made['found']} as well")
            return steps_of(made["steps"]), [f"{names.OF_FUNCTION}/{place}/" for place in made["constants"]]
        steps = steps_of(self._features[name].get("normalize"))
        if self._function is not None and self._described is None and not steps:
            raise ValueError(f"{expected} was run by an older version, which noted nothing of it")
        return steps, [f"{name}/{number}/" for number in range(len(steps))]

    def _constants(self, name: str, prefix: str, keys: Any, values: Any, ops: ArrayOps) -> Constants:
        found = {key.removeprefix(prefix): array for key, array in self._fitted.items() if key.startswith(prefix)}
        groups = found.pop("keys", None)
        if groups is None:
            return Constants(prefix, {key: ops.float64(array[None]) for key, array in found.items()}, values, ops)
        if keys is None:
            raise ValueError(f"feature {name}: expected keys, the groups of the rows, as each group has its constants")
        picked = {key: ops.pick(array, groups, keys, name) for key, array in found.items()}
        return Constants(prefix, picked, values, ops)


class Constants:
    """The constants of a step, as they broadcast against [batch, *shape]; the first axis is 1 long, or the batch."""

    def __init__(self, prefix: str, found: Mapping[str, Any], values: Any, ops: ArrayOps) -> None:
        """Holds the constants of a step by their names, for values of one rank."""
        self._ops = ops
        self._prefix = prefix
        self._found = found
        self._rank = len(values.shape)

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def get(self, name: str, *, before: int = 0) -> Any:
        """A constant, with `before` more axes between the batch and the statistic's; a ManifestError without it."""
        if name not in self._found:
            raise ManifestError(f"{names.FITTED}: expected the constant {self._prefix}{name}; found none")
        array = self._found[name]
        shape = tuple(array.shape)[1:]
        missing = self._rank - 1 + before - len(shape)
        return self._ops.reshape(array, [-1, *shape[:before], *[1] * missing, *shape[before:]]) if missing else array


def inverse(root: str | os.PathLike[str]) -> Inverse:
    """Reads how to get from transformed values back to raw ones.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.

    Returns:
        A function `inverse(name, values)` of a feature's name and its transformed values, `np.ndarray`,
        `tf.Tensor` or `tf.RaggedTensor`.

    Raises:
        ManifestError: If it is not a finished data set, is of a format version that this reader does not know, or what
            the transform has learned is not as the manifest lists it.
    """
    manifest = read_manifest(root)
    return Inverse(manifest.config, read_arrays(root, manifest, names.FITTED) or {})


def steps_of(normalize: Any) -> list[tuple[str, Any]]:
    """The steps of a configuration: the name of each, and what the user said of it."""
    if normalize is None or normalize == "none":
        return []
    steps = normalize if isinstance(normalize, list) else [normalize]
    return [(step, None) if isinstance(step, str) else next(iter(step.items())) for step in steps]
