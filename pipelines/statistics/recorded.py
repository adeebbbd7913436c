"""What is recorded of the training rows, as `.npz` archives: statistics and classes, and the exact moments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.summary import Moments, Statistics
from pipelines.storage.npz_bytes import by_name, dump_arrays, load_arrays

CLASS = "class_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingStatistics:
    """The statistics of features, and how often the classes of labels occur, by the features' names."""

    statistics: Mapping[str, Statistics]
    classes: Mapping[str, Distinct]

    def dump(self) -> bytes:
        """The bytes of an archive with keys `<feature>/<statistic>`."""
        arrays = {f"{name}/{key}": a for name, own in self.statistics.items() for key, a in own.arrays().items()}
        for name, own in self.classes.items():
            arrays |= {f"{name}/{CLASS}values": own.values, f"{name}/{CLASS}counts": own.counts}
        return dump_arrays(arrays)

    @staticmethod
    def load(data: bytes) -> TrainingStatistics:
        """Reads what `dump` wrote."""
        statistics, classes = {}, {}
        for name, arrays in by_name(load_arrays(data)).items():
            if "count" in arrays:
                fields = dataclasses.fields(Statistics)
                statistics[name] = Statistics(**{field.name: arrays[field.name] for field in fields})
            if f"{CLASS}values" in arrays:
                values, counts = (arrays[f"{CLASS}{key}"] for key in ("values", "counts"))
                classes[name] = Distinct(values, counts, np.array([len(values)]))
        return TrainingStatistics(statistics=statistics, classes=classes)


def dump_moments(moments: Mapping[str, Moments]) -> bytes:
    """Moments as the bytes of an archive with keys `<feature>/<field>`."""
    return dump_arrays({f"{name}/{key}": a for name, own in moments.items() for key, a in own.to_arrays().items()})


def load_moments(data: bytes) -> dict[str, Moments]:
    """Reads what `dump_moments` wrote."""
    return {name: Moments.from_arrays(arrays) for name, arrays in by_name(load_arrays(data)).items()}
