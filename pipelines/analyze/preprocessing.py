"""Steps, and a function of the user's own, as the one `preprocessing_fn` that tf.transform traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from pipelines.analyze import graph
from pipelines.analyze.user_function import Prepared, PreprocessingFn, load_function, load_traced
from pipelines.config.resolved import ResolvedConfig, ResolvedFeature
from pipelines.storage import files
from pipelines.storage.npz_bytes import load_arrays


def read_packed(fitted: str, features: Sequence[ResolvedFeature]) -> npt.NDArray[np.float64]:
    """The constants of the steps of some features, packed, of the file that has them."""
    return graph.pack(features, load_arrays(files.read_bytes(fitted)))


def combine(config: ResolvedConfig, packed: beam.PCollection[Any] | None) -> PreprocessingFn:
    """The user's function that a configuration names, beside it the steps of the features that it leaves to them.

    What the steps have learned is one element, as `graph.pack` gives it; None where no feature is left to steps.
    """
    assert config.custom is not None
    own, phases = Prepared(load_function(config.custom.place), config.graph_features), config.custom.phases
    if not config.transformed:
        return own

    def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # One feature that the first phase reads anyway; where the function learns nothing, no row is read.
        tensors = [inputs[name] for name in (phases[0][:1] if phases else inputs)]
        (found,) = tft.experimental.ptransform_analyzer(tensors, _Hand(packed), [tf.float64], [[None]])
        return {**graph.preprocess(inputs, found, config.transformed), **own(inputs)}

    return preprocessing_fn


def combine_learned(config: ResolvedConfig, fitted: str) -> PreprocessingFn:
    """As `combine`, with or without a function, where the file `fitted.npz` has all that was learned."""
    custom, features = config.custom, config.transformed
    own = None
    if custom is not None:
        assert custom.traced is not None, "what tf.transform learns is not known"
        own = Prepared(load_traced(custom.traced), config.graph_features, fitted)
    packed = tf.constant(read_packed(fitted, features)) if features else None

    def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        steps = {} if packed is None else graph.preprocess(inputs, packed, features)
        return steps if own is None else {**steps, **own(inputs)}

    return preprocessing_fn


@dataclasses.dataclass(eq=False)
class _Hand(beam.PTransform):  # type: ignore[misc]
    """An analyzer that hands on what has been learned already."""

    packed: beam.PCollection[Any]

    def expand(self, _: beam.PCollection[Any]) -> tuple[beam.PCollection[Any]]:
        """Wires the analyzer."""
        return (self.packed | "HandOn" >> beam.Map(lambda value: value),)
