"""How often the rows are read for the analysis of a function, and which features each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow_transform import analyzer_nodes, nodes
from tensorflow_transform.beam import analysis_graph_builder, beam_nodes

from pipelines.analyzers.recorded_calls import Notes
from pipelines.config.resolved import AnalyzerCall, TracedFunction
from pipelines.statistics.passes import Pass


def read_in_phases(graph: Any, inputs: Any, outputs: Any) -> tuple[tuple[str, ...], ...]:
    """The names of the inputs, sorted, that each phase of the analysis of a traced function reads, each time once.

    A phase that depends on no input has the first one, for its rows.
    """
    visitor = _Phases()
    transform_fn, _, _ = analysis_graph_builder.build(graph, inputs, outputs)
    nodes.Traverser(visitor).visit_value_node(transform_fn)
    names = {tensor.op.name: name for name, tensor in inputs.items()}
    return tuple(
        _depend_on(visitor.needed[phase], names) or tuple(sorted(inputs)[:1]) for phase in sorted(visitor.needed)
    )


class _Phases(nodes.Visitor):  # type: ignore[misc]
    """Notes which tensors each phase computes of the rows, as a SavedModel that is applied to them."""

    def __init__(self) -> None:
        self.needed: dict[int, list[Any]] = {}

    def visit(self, operation_def: Any, input_values: Any) -> Any:
        """Looks at one operation."""
        if isinstance(operation_def, beam_nodes.ApplySavedModel):
            model = input_values[0].parent_operation.operation_def
            self.needed[operation_def.phase] = list(model.output_signature.values())
        return nodes.OperationNode(operation_def, input_values).outputs

    def validate_value(self, value: Any) -> None:
        """All values are as tf.transform makes them."""


def learns_alone(graph: Any, notes: Notes) -> bool:
    """Whether all that a function asks of the rows are analyzers that are noted, in a graph that needs no set-up.

    Tables and variables would have to be initialised before the graph runs.
    """
    analyzers = graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)
    outputs = (tensor.dtype for operation in graph.get_operations() for tensor in operation.outputs)
    return len(analyzers) == sum(len(own.passes) for own in notes.analyzers) and tf.resource not in set(outputs)


def asked_of(notes: Notes, inputs: Mapping[str, Any], traced: TracedFunction) -> tuple[AnalyzerCall, ...]:
    """What the analyzers of a traced function read, and when, by the notes of its call with such inputs."""
    features = {tensor.op.name: name for name, tensor in inputs.items()}
    as_read = {id(tensor): name for name, tensor in inputs.items()}
    number_of: dict[str, str] = {}
    found: list[AnalyzerCall] = []
    for own in notes.analyzers:
        tensors_read = [tensors for tensors, _ in own.passes]
        # Of the state that a later pass takes, too, nothing is computed.
        after = tuple(tuple(sorted(map(int, _depend_on(tensors, number_of)))) for tensors in tensors_read)
        names = [tuple(as_read.get(id(tensor), "") for tensor in tensors) for tensors in tensors_read]
        keys = [Pass(own.subjects, number).grouped for number in range(len(tensors_read))]
        found.append(
            AnalyzerCall(
                number=own.number,
                subjects=own.subjects,
                first=max((found[before].first + len(found[before].reads) for before in after[0]), default=0),
                reads=tuple(_depend_on(tensors, features) or tuple(sorted(inputs)[:1]) for tensors in tensors_read),
                after=after,
                direct=tuple(
                    None if "" in own_names or key else own_names for own_names, key in zip(names, keys, strict=True)
                ),
                traced=traced,
            )
        )
        number_of[own.passes[-1][1].op.name] = str(own.number)
    return tuple(found)


def _depend_on(tensors: Iterable[Any], names: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the inputs that tensors are computed of; what analyzers give is there before a phase begins."""
    left, seen = [tensor.op for tensor in tensors], set[str]()
    while left:
        operation = left.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            left += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return tuple(sorted(name for operation, name in names.items() if operation in seen))
