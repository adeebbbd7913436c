"""Steps, and a function of the user's own, as the one `preprocessing_fn` that tf.transform traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from pipelines.analyze import graph
from pipelines.analyze.custom import Prepared, PreprocessingFn, load_function, load_traced
from pipelines.config.resolved import Custom, ResolvedConfig, ResolvedFeature
from pipelines.storage import files
from pipelines.storage.archive import load_arrays


def of_steps(
    features: Sequence[ResolvedFeature], packed: beam.PCollection[Any], *, read: Iterable[str] | None = None
) -> PreprocessingFn:
    """What steps mean whose constants have been learned: one element, as `graph.pack` gives them.

    tf.transform may think that they are learned from the inputs that are `read`, all of them where that is None.
    """

    def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tensors = [inputs[name] for name in (inputs if read is None else read)]
        (found,) = tft.experimental.ptransform_analyzer(tensors, _Hand(packed), [tf.float64], [[None]])
        return graph.preprocess(inputs, found, features)

    return preprocessing_fn


def read_packed(fitted: str, features: Sequence[ResolvedFeature]) -> npt.NDArray[np.float64]:
    """The constants of the steps of some features, packed, of the file that has them."""
    return graph.pack(features, load_arrays(files.read_bytes(fitted)))


def combine(config: ResolvedConfig, packed: beam.PCollection[Any] | None) -> PreprocessingFn:
    """The user's function that a configuration names, beside it the steps of the features that it leaves to them.

    The constants of the steps are one element; None where no feature is left to steps.
    """
    assert config.custom is not None
    own = Prepared(load_function(config.custom.place), config.graph_features)
    if not config.transformed:
        return own
    phases = config.custom.phases
    # One feature that the first phase reads anyway; where the function learns nothing, no row is read.
    steps = of_steps(config.transformed, packed, read=phases[0][:1] if phases else None)
    return lambda inputs: {**steps(inputs), **own(inputs)}


def combine_learned(config: ResolvedConfig, fitted: str) -> PreprocessingFn:
    """As `combine`, with or without a function, where the file `fitted.npz` has all that was learned."""
    custom, features = config.custom, config.transformed
    own = None if custom is None else Prepared(_function_of(custom), config.graph_features, fitted)
    packed = tf.constant(read_packed(fitted, features)) if features else None

    def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        steps = {} if packed is None else graph.preprocess(inputs, packed, features)
        return steps if own is None else {**steps, **own(inputs)}

    return preprocessing_fn


def _function_of(custom: Custom) -> PreprocessingFn:
    assert custom.traced is not None, "what tf.transform learns is not known"
    return load_traced(custom.traced)


class _Hand(beam.PTransform):  # type: ignore[misc]
    """An analyzer that hands on what has been learned already."""

    def __init__(self, packed: beam.PCollection[Any]) -> None:
        super().__init__()
        self._packed = packed

    def expand(self, _: beam.PCollection[Any]) -> tuple[beam.PCollection[Any]]:
        """Wires the analyzer."""
        return (self._packed | "HandOn" >> beam.Map(_same),)


def _same(value: Any) -> Any:
    return value
