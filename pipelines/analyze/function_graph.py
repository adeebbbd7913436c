"""The graph of a user's own function in this process: what its analyzers take, of rows and of what was learned."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from pipelines.analyze import graph
from pipelines.analyze.user_function import Prepared, function_failed, load_traced
from pipelines.analyzers.engine import pack
from pipelines.analyzers.recorded_calls import Noted
from pipelines.config.resolved import AnalyzerCall, TracedFunction
from pipelines.reading.batches import Columns
from pipelines.statistics.passes import Arrays


def values_of_pass(
    asked: AnalyzerCall, number: int, learned: Mapping[int, Arrays], pieces: Iterator[Columns]
) -> Iterator[Sequence[npt.NDArray[Any]]]:
    """What a pass takes of rows, batch by batch, as `Pass.accumulate` has it.

    The `pieces` have the features that the pass reads; `learned` is what the analyzers before have, by their numbers.

    Raises:
        DataError: If TensorFlow cannot take the rows.
    """
    function = _run(asked, number)
    constants = [tf.constant(pack(list(learned[before].values()))) for before in asked.after[number]]
    features = {feature.name: feature for feature in asked.traced.features}
    for columns in pieces:
        tensors = [graph.as_tensor(features[name], columns[name]) for name in asked.reads[number]]
        try:
            found = function(*tensors, *constants)
        except tf.errors.OpError as error:
            raise function_failed(asked.traced.place, str(error)) from error
        yield [tensor.numpy() for tensor in found]


class _Graph:
    """A function, called once with tensors that stand for rows and for what its analyzers learn."""

    def __init__(self, traced: TracedFunction) -> None:
        function = Prepared(load_traced(traced), traced.features)
        self.analyzers: list[Noted] = []

        def call(*tensors: tf.Tensor) -> list[tf.Tensor]:
            names = [feature.name for feature in traced.features]
            outputs, notes = function.noted(dict(zip(names, tensors, strict=True)), fed=True)
            self.analyzers += notes.analyzers
            self.features = dict(zip(names, tensors, strict=True))
            return list(outputs.values())

        specs = [tf.TensorSpec([None, *f.value_shape], f.graph_kind) for f in traced.features]
        self.function = tf.compat.v1.wrap_function(call, specs)


_graph = functools.lru_cache(maxsize=2)(_Graph)


@functools.lru_cache(maxsize=64)
def _run(asked: AnalyzerCall, number: int) -> Any:
    """What computes the values of a pass: of the features that it reads, and of what the analyzers before learned."""
    made = _graph(asked.traced)
    inputs = [made.features[name] for name in asked.reads[number]]
    inputs += [made.analyzers[before].passes[-1][1] for before in asked.after[number]]
    return made.function.prune(inputs, list(made.analyzers[asked.number].passes[number][0]))
