"""Columnar batches: the rows of some spans as one array for each feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines import progress
from pipelines.plan import Plan, Span
from pipelines.read import check_finite, read_rows

Columns = dict[str, npt.NDArray[Any]]
"""Feature name → `[rows, *shape]`; every array has the same number of rows."""


def read_columns(plan: Plan, spans: Sequence[Span], *, stage: str) -> Columns:
    """Reads the rows of some spans, one after the other.

    Args:
        plan: The plan, which knows the sources.
        spans: The runs of rows.
        stage: The stage that the rows are counted for, in the progress shown.

    Returns:
        For each feature `[rows of all spans, *shape]` in the dtype of the sources and this machine's byte order.

    Raises:
        DataError: If a file changed since preflight, or a float feature that the transform uses holds ±inf.
    """
    rows = sum(span.rows for span in spans)
    columns = {
        feature.name: np.empty((rows, *feature.spec.shape), dtype=feature.source_dtype)
        for feature in plan.config.features
    }
    offset = 0
    for span in spans:
        for feature in plan.config.features:
            source = plan.table.parts[span.part].sources[feature.name]
            piece = columns[feature.name][offset : offset + span.rows]
            read_rows(plan.table.root, source, span.start, span.stop, row_axes=feature.row_axes, out=piece)
            if feature.transformed:
                check_finite(piece, path=source.path, feature=feature.name, first_row=span.start)
        offset += span.rows
        progress.advance(stage, rows=span.rows, size=span.rows * plan.table.row_bytes)
    return columns


def take(columns: Columns, rows: npt.NDArray[Any]) -> Columns:
    """Some rows of each column, by number or by mask."""
    return {name: values[rows] for name, values in columns.items()}
