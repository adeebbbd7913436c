"""A sample of rows of the sources: bounded in rows, bytes and files, and the same for the same sources."""

from __future__ import annotations

import collections
import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

from pipelines.plan.plan import Plan
from pipelines.plan.units import Span, Units
from pipelines.reading.batches import Columns
from pipelines.reading.columns import read_columns
from pipelines.reading.split_assignment import splits_of

STAGE = "sample"
ROWS = 4096
BYTES = 8 * 2**20
RUNS = 32
"""Runs of rows that are read, spread evenly over the sources, which are often sorted by class or time."""

READS = 4096
"""About how many reads there are: as many as runs, for each feature and each file that a run touches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceSample:
    """Some rows of the sources.

    Attributes:
        columns: The rows, as `read_columns` gives them.
        splits: The split of each row as a number in `plan.splits`; -1 for a row that is dropped.
        places: Where each row lies among all, from 0 to 1.
        whole: Whether these are all rows.
    """

    columns: Columns
    splits: npt.NDArray[np.intp]
    places: npt.NDArray[np.float64]
    whole: bool


def sample_sources(plan: Plan) -> SourceSample:
    """Reads some rows of the sources, whatever values they hold.

    Raises:
        DataError: If a file changed since the sources were checked, or a value names no split.
        OSError: If a file cannot be read.
    """
    spans = choose_spans(plan)
    numbers = [plan.table.first_rows[span.part] + np.arange(span.start, span.stop) for span in spans]
    rows = sum(span.rows for span in spans)
    return SourceSample(
        columns=read_columns(plan, spans, stage=STAGE, strict=False),
        splits=splits_of(plan, spans, stage=STAGE),
        places=np.concatenate([*numbers, np.zeros(0)]) / max(plan.table.rows, 1),
        whole=rows == plan.table.rows,
    )


def choose_spans(plan: Plan) -> list[Span]:
    """Runs of rows, evenly spread; of compressed arrays the first ones, as those after them cost as much again."""
    table = plan.table
    if not table.rows:
        return []
    rows = int(max(min(ROWS, BYTES // max(table.row_bytes, 1)), 1))
    runs = max(min(RUNS, READS // max(len(table.features), 1), rows), 1)
    part_rows = table.rows / max(len(table.parts), 1)
    run_rows = max(min(rows // runs, int(part_rows * READS / (runs * len(table.features)))), 1)
    units = Units(parts=range(len(table.parts)), part_rows=table.part_rows, unit_rows=run_rows)
    chosen = np.unique(np.arange(runs) * len(units) // runs) if len(units) > runs else np.arange(len(units))
    found, first_rows = [], collections.Counter[int]()
    for span in itertools.chain.from_iterable(units.spans(int(number)) for number in chosen):
        if table.part_compressed[span.part]:
            first_rows[span.part] += span.rows
        else:
            found.append(span)
    compressed = [Span(part=part, start=0, stop=rows) for part, rows in first_rows.items()]
    return sorted([*found, *compressed], key=lambda span: (span.part, span.start))
