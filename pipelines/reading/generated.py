"""The values of features without files: the number of a row, the class of its directory, a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.config.feature import Feature
from pipelines.plan.units import Span
from pipelines.sources.table import SourceTable


def generate(table: SourceTable, feature: Feature, spans: Sequence[Span]) -> npt.NDArray[Any]:
    """Makes the values of some runs of rows, for a feature whose origin is not `files`.

    Returns:
        `[rows of all spans]`, of the feature's dtype: for `index` the rows' numbers in the table, from 0; for
        `directory` the number of the part's directory among all, sorted by name; or the constant.
    """
    counts = [span.rows for span in spans]
    if feature.origin == "constant":
        return np.full(sum(counts), feature.constant, feature.dtype)
    if feature.origin == "index":
        first = [int(table.first_rows[span.part]) + span.start for span in spans]
        ends = np.cumsum(counts, dtype=np.int64)
        begins = np.asarray(first, np.int64) - (ends - counts)
        return np.repeat(begins, counts) + np.arange(sum(counts), dtype=np.int64)
    classes = [table.class_numbers[span.part] for span in spans]
    return np.repeat(np.asarray(classes, np.int64), counts)
