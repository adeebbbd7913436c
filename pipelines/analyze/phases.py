"""How often tf.transform reads the rows for the analysis of a function, and which features each time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorflow_transform import nodes
from tensorflow_transform.beam import analysis_graph_builder, beam_nodes


def read_in_phases(graph: Any, inputs: Any, outputs: Any) -> tuple[tuple[str, ...], ...]:
    """The features that each phase of an analysis reads; a phase reads the rows once.

    Args:
        graph: What tracing a function has given.
        inputs: Its inputs, a mapping of names to tensors.
        outputs: Its outputs.

    Returns:
        The names of the phases' inputs, sorted; of a phase that depends on none, the first input's, for the rows.
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


def _depend_on(tensors: Iterable[Any], names: dict[str, str]) -> tuple[str, ...]:
    """The names of the inputs that tensors are computed of; what analyzers give is there before a phase begins."""
    left, seen = [tensor.op for tensor in tensors], set[str]()
    while left:
        operation = left.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            left += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return tuple(sorted(name for operation, name in names.items() if operation in seen))
