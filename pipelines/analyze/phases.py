"""How often tf.transform reads the rows for the analysis of a function."""

from __future__ import annotations

from typing import Any

from tensorflow_transform import nodes
from tensorflow_transform.beam import analysis_graph_builder, beam_nodes


def count_phases(graph: Any, inputs: Any, outputs: Any) -> int:
    """The phases of an analysis, each of which reads the rows once.

    Args:
        graph: What tracing a function has given.
        inputs: Its inputs.
        outputs: Its outputs.
    """
    counter = _Phases()
    transform_fn, _, _ = analysis_graph_builder.build(graph, inputs, outputs)
    nodes.Traverser(counter).visit_value_node(transform_fn)
    return len(counter.found)


class _Phases(nodes.Visitor):  # type: ignore[misc]
    """Notes in which phases a graph is applied to rows."""

    def __init__(self) -> None:
        self.found: set[int] = set()

    def visit(self, operation_def: Any, input_values: Any) -> Any:
        """Looks at one operation."""
        if isinstance(operation_def, beam_nodes.ApplySavedModel):
            self.found.add(operation_def.phase)
        return nodes.OperationNode(operation_def, input_values).outputs

    def validate_value(self, value: Any) -> None:
        """All values are as tf.transform makes them."""
