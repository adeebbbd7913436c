"""The transform without TensorFlow: what was learned, applied to arrays of NumPy, PyTorch or JAX."""

from __future__ import annotations

import collections
import copy
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format import names
from loaders.format.manifest import Manifest, ManifestError
from loaders.format.spec import FeatureSpec
from loaders.format.step_formulas import FORMULAS, representable
from loaders.reading.columns import LENGTH_SUFFIX, MASK
from loaders.storage.files import read_arrays, read_manifest
from loaders.transform.inverse import steps_of
from loaders.transform.ops import ArrayOps, ops_of

IMPUTE = "impute"
"""What takes the place of a step's number in the names of the constants of an imputation."""


class Forward:
    """Maps rows as the sources have them to transformed ones: in float64, on the device of the batch.

    Attributes:
        features: The features that it gives, sorted by name.
        sources: The features as the sources have them, by name.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        fitted: Mapping[str, npt.NDArray[Any]],
        *,
        features: Sequence[FeatureSpec],
        sources: Sequence[FeatureSpec],
        as_stored: Collection[str] = (),
    ) -> None:
        """Makes the transform that a configuration describes.

        Args:
            config: The resolved configuration of the data set.
            fitted: Its constants, by `<feature>/impute/<constant>` and `<feature>/<number of the step>/<constant>`.
            features: What it gives.
            sources: The features as the sources have them.
            as_stored: Those that a batch has transformed already.

        Raises:
            ManifestError: If the transform is a function of the user's own, or has a step that is not known here.
        """
        if (function := config.get("preprocessing_fn")) is not None:
            raise ManifestError(
                f"expected steps that the configuration names; found the function {function}, which takes tensors of "
                "TensorFlow alone"
            )
        self.features: tuple[FeatureSpec, ...] = tuple(features)
        self._config: Mapping[str, Any] = config["features"]
        self.sources: dict[str, FeatureSpec] = {spec.name: spec for spec in sources}
        self._as_stored = frozenset(as_stored)
        self._learned: dict[tuple[str, str], dict[str, npt.NDArray[Any]]] = collections.defaultdict(dict)
        for key, array in fitted.items():
            *feature, place, constant = key.split("/")
            self._learned["/".join(feature), place][constant] = array
        for name, feature in self._config.items():
            for place, method, _ in _steps(feature):
                if method not in FORMULAS:
                    known = ", ".join(FORMULAS)
                    raise ManifestError(f"feature {name}: expected one of the steps {known}; found {method}")
                if (name, place) in self._learned:
                    self._learned[name, place] |= FORMULAS[method].prepare(self._learned[name, place])

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what the features are made of: themselves, and masks and groups."""
        found = {spec.name if spec.name in self._as_stored else self._source(spec.name) for spec in self.features}
        return tuple(sorted(found.union(*(self._needs(name) for name in found))))

    def only(self, names: Collection[str]) -> Forward:
        """The transform of these features alone."""
        chosen = copy.copy(self)
        chosen.features = tuple(spec for spec in self.features if spec.name in names)
        return chosen

    def __call__(self, batch: Mapping[str, Any], ops: ArrayOps | None = None) -> dict[str, Any]:
        """Transforms a batch.

        Args:
            batch: Arrays of NumPy, PyTorch or JAX of shape [batch, *shape] by the names of features; strings as arrays
                of objects or of `S`, or as lists of bytes. Rows of varying length come filled up to the longest, with
                their lengths in `<feature>_length`, as loaders give them. Features that are not there are not made.
            ops: The operations; those of the arrays' framework where None.

        Returns:
            An array of shape [batch, *shape] for each feature that the batch has, in the dtype of `features`, and
            `<feature>_missing` where the configuration has an indicator. Lengths and the mask of padded rows pass by.
            In NumPy the values are those of TensorFlow's graph, bit for bit, but for steps with a transcendental
            function or a system of equations, which differ in the last bits of float64. JAX gives 32 bits unless
            `jax_enable_x64` is set.

        Raises:
            ValueError: If a name is not known, a row has another shape, or a feature that another one needs is missing.
            TypeError: If the arrays are of another kind.
        """
        self._check(batch)
        like = next((values for values in batch.values() if _is_array(values)), np.empty(0))
        ops, result = ops or ops_of(like), {}
        with ops.precise():
            for spec in self.features:
                name = self._source(spec.name)
                if spec.name in self._as_stored and spec.name in batch:
                    result[spec.name] = batch[spec.name]
                elif name in batch and name == spec.name:
                    result[name] = self._transformed(spec, batch, ops)
                elif name in batch:
                    absent = self._absent(name, _dense(batch[name]), batch, ops)
                    result[spec.name] = self._leave(absent, spec, batch, name, ops)
        return result | self._beside(batch)

    def _beside(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The mask of a padded batch, and the lengths of padded rows."""
        found = {MASK: MASK}
        for spec in self.features:
            source = spec.name if spec.name in self._as_stored else self._source(spec.name)
            found |= {spec.name + LENGTH_SUFFIX: source + LENGTH_SUFFIX} if spec.ragged else {}
        return {name: batch[source] for name, source in found.items() if source in batch}

    def _check(self, batch: Mapping[str, Any]) -> None:
        """Checks the names and shapes of a batch."""
        beside = {MASK, *(spec.name for spec in self.features), *(f"{name}{LENGTH_SUFFIX}" for name in self._config)}
        unknown = [name for name in batch if name not in self._config and name not in beside]
        if unknown:
            raise ValueError(f"expected features of {', '.join(self._config)}; found {', '.join(unknown)}")
        for name in batch:
            for other in self._needs(name):
                if other not in batch:
                    raise ValueError(f"feature {name}: expected {other}, which it needs, beside it; found none")
            spec = self.sources.get(name)
            if spec is not None and name not in self._as_stored and _is_array(batch[name]):
                found = tuple(batch[name].shape)[1:]
                if len(found) != len(spec.shape) or any(
                    a not in (None, b) for a, b in zip(spec.shape, found, strict=True)
                ):
                    raise ValueError(f"feature {name}: expected rows of shape {list(spec.shape)}; found {list(found)}")

    def _needs(self, name: str) -> list[str]:
        """The other features without which one cannot be transformed."""
        feature = self._config.get(name, {}) if name not in self._as_stored else {}
        return [feature[key] for key in ("by", "mask") if feature.get(key) is not None]

    def _source(self, name: str) -> str:
        """The feature that another is made of: itself, or the one whose missing values it tells."""
        return name if name in self._config else name.removesuffix(names.INDICATOR_SUFFIX)

    def _transformed(self, spec: FeatureSpec, batch: Mapping[str, Any], ops: ArrayOps) -> Any:
        """One feature of a transformed batch."""
        name, feature = spec.name, self._config[spec.name]
        steps = list(_steps(feature))
        x = _dense(batch[name])
        if not steps and (not _declares_missing(feature) or not _floating(x)):
            return self._leave(x, spec, batch, name, ops)
        rows = ops.shape(x)[:2] if spec.ragged else ()
        absent = self._absent(name, x, batch, ops) if _declares_missing(feature) else None
        if rows:  # each step of a row is one to what follows
            x, absent = (part if part is None else ops.reshape(part, (-1, *part.shape[2:])) for part in (x, absent))
        if absent is not None:
            x, steps = self._marked(name, x, absent, steps, batch, ops)
        for place, method, said in steps:
            x = ops.float64(x) if "float64" in FORMULAS[method].inputs else x
            x = FORMULAS[method].forward(x, self._constants(name, place, batch, ops), said, ops)
        x = ops.reshape(x, (*rows, *x.shape[1:])) if rows else x
        return self._leave(x, spec, batch, name, ops)

    def _marked(
        self, name: str, x: Any, absent: Any, steps: list[tuple[str, str, Any]], batch: Mapping[str, Any], ops: ArrayOps
    ) -> tuple[Any, list[tuple[str, str, Any]]]:
        """Values with NaN for those that are missing, and the steps that are left.

        Integers are filled at once where the fill is an integer of their dtype, so that those beyond 2^53 stay exact.
        """
        fill = self._learned.get((name, IMPUTE), {}).get("fill")
        if fill is not None and not _floating(x):
            limits = np.iinfo(self.sources[name].numpy_dtype)
            if ((fill == np.floor(fill)) & (fill >= limits.min) & (fill <= limits.max)).all():
                filled = self._constants(name, IMPUTE, batch, ops)["fill"]
                return ops.where(absent, ops.cast_like(filled, x), x), steps[1:]
        x = x if _floating(x) else ops.float64(x)
        return ops.where(absent, ops.cast_like(np.nan, x), x), steps

    def _absent(self, name: str, x: Any, batch: Mapping[str, Any], ops: ArrayOps) -> Any:
        """Which values of a feature are missing: NaN, declared ones, and those that a mask tells."""
        feature = self._config[name]
        absent = ops.isnan(x) if _floating(x) else ops.asarray(np.zeros(ops.shape(x), np.bool_))
        dtype = self.sources[name].numpy_dtype
        for value in representable(feature.get("missing") or (), dtype):
            absent = absent | (x == ops.cast_like(value if dtype.kind == "f" else int(value), x))
        if feature.get("mask") is not None:
            flags = _dense(batch[feature["mask"]])
            flags = flags if "bool" in str(flags.dtype) else flags != 0  # TensorFlow compares no bool with a number
            absent = absent | ops.reshape(flags, (*flags.shape, *[1] * (len(x.shape) - len(flags.shape))))
        return absent

    def _constants(self, name: str, place: str, batch: Mapping[str, Any], ops: ArrayOps) -> dict[str, Any]:
        """What a step has learned, for each row where groups have constants of their own."""
        found = dict(self._learned.get((name, place), {}))
        if self._config[name].get("by") is None:
            return {key: ops.float64(array) if array.dtype.kind == "f" else array for key, array in found.items()}
        groups = found.pop("keys", None)
        if groups is None:
            return {}
        keys = batch[self._config[name]["by"]]
        return {key: ops.pick(array, groups, keys, name) for key, array in found.items()}

    def _leave(self, x: Any, spec: FeatureSpec, batch: Mapping[str, Any], source: str, ops: ArrayOps) -> Any:
        """A feature in its dtype, with zeros after the end of each row."""
        if spec.dtype == "string":
            return _dense(batch[source])
        if spec.dtype == "float16":  # by way of float32, as in TensorFlow's graph
            x = ops.leave(x, np.float32)
        x = ops.leave(x, spec.numpy_dtype)
        if not spec.ragged:
            return x
        lengths = ops.int64(batch[source + LENGTH_SUFFIX])
        there = ops.int64(np.arange(x.shape[1])) < lengths[:, None]
        there = ops.reshape(there, (*there.shape, *[1] * (len(x.shape) - 2)))
        return ops.where(there, x, ops.zeros_like(x))


def forward(root: str | os.PathLike[str]) -> Forward:
    """Reads how rows as the sources have them become transformed ones, without TensorFlow.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.

    Returns:
        A function of a batch: a dict of arrays of NumPy, PyTorch or JAX by the names of features.

    Raises:
        ManifestError: If it is not a finished data set, is of a format version that this reader does not know, or its
            transform is a function of the user's own.
    """
    return of_data_set(os.fspath(root), read_manifest(root))


def of_data_set(root: str, manifest: Manifest, *, as_stored: bool = False) -> Forward:
    """The transform of a data set, of rows as the sources have them, or as its shards do."""
    config = manifest.config["features"]
    stored = {spec.name for spec in manifest.features if config.get(spec.name, {}).get("store") != "raw"}
    fitted = read_arrays(root, manifest, names.FITTED) or {}
    try:
        return Forward(
            manifest.config,
            fitted,
            features=manifest.transformed or manifest.features,
            sources=manifest.sources or manifest.features,  # older data sets do not say what the sources were
            as_stored=stored if as_stored else (),
        )
    except ManifestError as error:
        raise ManifestError(f"{root}: {error}") from error


def _steps(feature: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Where the constants of each step are, its name, and what the configuration says of it."""
    if feature.get("impute") != "forbid":
        yield from ((IMPUTE, method, said) for method, said in steps_of(feature.get("impute")))
    yield from ((str(number), *step) for number, step in enumerate(steps_of(feature.get("normalize"))))


def _declares_missing(feature: Mapping[str, Any]) -> bool:
    """Whether other values than NaN are missing."""
    return bool(feature.get("missing")) or feature.get("mask") is not None


def _is_array(values: Any) -> bool:
    return hasattr(values, "shape") and not _text(values)


def _text(values: Any) -> bool:
    return isinstance(values, list) or getattr(values.dtype, "kind", None) in ("O", "S", "U")


def _dense(values: Any) -> Any:
    """Numbers as they are; strings as an array of objects."""
    return np.asarray(values, object) if _text(values) else values


def _floating(x: Any) -> bool:
    return "float" in str(x.dtype)
