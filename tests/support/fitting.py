"""Learns and applies the steps of features in this process, from arrays."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipelines.analyze import fit, graph, rounds
from pipelines.analyze.accumulate import accumulate
from pipelines.config.defaults import resolve_feature
from pipelines.config.feature import Feature
from pipelines.config.resolved import ResolvedConfig, ResolvedFeature
from pipelines.config.schema import parse_config
from pipelines.reading.batches import Ragged, take
from pipelines.write.transform import apply_transform


def resolve(arrays: dict[str, Any], said: dict[str, dict[str, Any]]) -> ResolvedConfig:
    """The features of some columns, as a configuration says them."""
    config = parse_config({"features": said})
    features = []
    for name, array in sorted(arrays.items()):
        values = array.values if isinstance(array, Ragged) else array
        shape = (None, *values.shape[1:]) if isinstance(array, Ragged) else values.shape[1:]
        features.append(resolve_feature(Feature(name=name, dtype=values.dtype, shape=shape, row_axes=1), config))
    return ResolvedConfig(features=tuple(features), splits={"train": 1.0}, seed=0, shard_bytes=2**20, rows_per_record=1)


def resolve_one(dtype: str, shape: tuple[int | None, ...], /, name: str = "x", **said: Any) -> ResolvedFeature:
    """One feature."""
    feature = Feature(name=name, dtype=np.dtype(dtype), shape=shape, row_axes=1)
    return resolve_feature(feature, parse_config({"features": {name: said}}))


def learn(config: ResolvedConfig, arrays: dict[str, Any], units: int = 3) -> fit.Known:
    """What the features learn from all rows, cut into about equal units."""
    features = {f.name: f for f in config.features if f.analyzed}
    known = fit.begin(features.values())
    rows = len(next(iter(arrays.values())))
    for needs in rounds.schedule(features.values()):
        cuts = np.array_split(np.arange(rows), units)
        added = [accumulate(needs, features, known, take(arrays, cut), cut.astype(np.uint64)) for cut in cuts]
        merged = functools.reduce(functools.partial(rounds.merge, features), added)
        known = fit.update(features, known, merged)
    return known


def packed_of(config: ResolvedConfig, known: fit.Known) -> npt.NDArray[np.float64]:
    """What was learned, as the vector that the graph takes."""
    return graph.pack(config.transformed, graph.fitted_arrays(config.transformed, known))


class Exported:
    """The graph with what has been learned, as a SavedModel would have it."""

    def __init__(self, config: ResolvedConfig, known: fit.Known) -> None:
        self._transformed = config.transformed
        self._packed = tf.constant(packed_of(config, known))

    @functools.cached_property
    def transform_fn(self) -> Any:
        """The graph, for batches of any size, as tf.transform traces it."""

        def run(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return graph.preprocess(inputs, self._packed, self._transformed)

        traced: dict[str, Any] = {}

        def call(inputs: dict[str, tf.Tensor]) -> Any:
            if not traced:
                specs = {name: tf.TensorSpec([None, *x.shape[1:]], x.dtype) for name, x in inputs.items()}
                traced["run"] = tf.function(run, input_signature=[specs])
            return traced["run"](inputs)

        return call


def fitted(arrays: dict[str, Any], said: dict[str, dict[str, Any]], *, units: int = 3) -> Any:
    """A function that transforms arrays by what was learned from others."""
    config = resolve(arrays, said)
    exported = Exported(config, learn(config, arrays, units))
    return lambda new: apply_transform(exported, config, new)


def transform(arrays: dict[str, Any], said: dict[str, dict[str, Any]], *, units: int = 3, new: Any = None) -> Any:
    """What the exported graph makes of arrays (or of new ones), with what it learned from the arrays."""
    return fitted(arrays, said, units=units)(arrays if new is None else new)


def columns(seed: int = 0, rows: int = 300) -> dict[str, Any]:
    """Arrays that statistics are hard for, `[rows, 3]` or one row, none with a column of no value."""
    random = np.random.default_rng(seed)
    unit = random.normal(size=(rows, 3))
    holes = np.where(random.random(unit.shape) < 0.2, np.nan, unit)
    return {
        "normal": unit.astype(np.float32),
        "missing": holes.astype(np.float32),
        "missing64": holes * [1.0, 1e-3, 1e5],
        "half": holes.astype(np.float16),
        "constant": np.full((rows, 3), 3.3, np.float32),
        "nearly constant": np.where(np.arange(rows)[:, None] == 7, 1.0 + 2.0**-20, 1.0) * np.ones((1, 3)),
        "huge mean": (1e6 + random.integers(-1, 2, unit.shape)).astype(np.float32),
        "huge mean64": 1.7e9 + random.uniform(-1, 1, unit.shape),
        "tiny": unit * 1e-150,
        "large": unit * 1e150,
        "one row": np.array([[1.5, -2.0, 0.0]], np.float32),
        "uint8": random.integers(0, 256, unit.shape).astype(np.uint8),
        "int16": random.integers(-(2**15), 2**15, unit.shape).astype(np.int16),
        "int64": random.integers(-(2**40), 2**40, unit.shape),
    }
