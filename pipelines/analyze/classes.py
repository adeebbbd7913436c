"""Whether the classes of the training rows have names, where names are given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from loaders.format.names import STATISTICS
from pipelines.errors import DataError
from pipelines.output.directory import Output
from pipelines.plan.plan import Plan
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.statistics.summary import Statistics
from pipelines.storage import files


def check_names(plan: Plan, output: Output) -> None:
    """Raises a DataError where one of the classes that pass 1 has found has no name."""
    if any(feature.spec.class_names for feature in plan.config.features):
        recorded = TrainingStatistics.load(files.read_bytes(files.join(output.staged, STATISTICS)))
        check_classes(plan, recorded.statistics)


def check_classes(plan: Plan, statistics: Mapping[str, Statistics]) -> None:
    """Raises a DataError where a class has no name, and names are given."""
    for feature in plan.config.features:
        spec = feature.spec
        # An id has no statistics, and those of a feature whose values are changed are not of its classes.
        if not spec.class_names or spec.name not in statistics or feature.transformed:
            continue
        last, highest = len(spec.class_names) - 1, float(np.fmax.reduce(statistics[spec.name].max, None))
        if highest > last:
            raise DataError(f"feature {spec.name}: expected classes 0 to {last}, which have names; found {highest:g}")
