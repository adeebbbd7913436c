"""The statistics of a data set's training rows, as a person is shown them: a table a feature, a line a column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from loaders.format.manifest import Manifest
from loaders.format.names import FITTED, OF_FUNCTION
from pipelines.output.directory import read_listed, read_statistics
from pipelines.results import Block, Table, count_of
from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.notable import notable, strangeness
from pipelines.statistics.summary import Statistics
from pipelines.storage.archive import load_arrays

SHOWN_STATISTICS = ("min", "max", "mean", "std")
SHOWN_CLASSES = 20
SHOWN_VALUES = 3


def of_statistics(root: str, manifest: Manifest) -> list[Block]:
    """Of each feature the statistics of its columns, the most notable ones, or how often its classes occur."""
    found = read_statistics(root, manifest)
    of = "the training rows" if manifest.transform_from is None else "the rows that the transform was learned from"
    features = list(dict.fromkeys([*found.statistics, *found.classes]))
    shown = notable([float(_strangest(found.statistics.get(name))) for name in features])
    names = {spec.name: spec.class_names for spec in manifest.features}
    said: list[Block] = [f"\nStatistics of {of}, before the transform" if features else ""]
    for name in (features[number] for number in shown):
        if name in found.classes:
            said += _of_classes(name, found.classes[name], names.get(name, ()))
        else:
            said += _of_columns(name, found.statistics[name])
    left_out = len(features) - len(shown)
    said += [f"\n{count_of(left_out, 'more feature')}"] if left_out else []
    return said + _of_function(root, manifest)


def _of_function(root: str, manifest: Manifest) -> list[Block]:
    """What a function of the user's own has learned by `pipelines.analyzers`."""
    data = read_listed(root, manifest, FITTED)
    arrays = {} if data is None else load_arrays(data)
    if OF_FUNCTION not in arrays:
        return []
    labels = json.loads(arrays[OF_FUNCTION].tobytes())["analyzers"]
    rows = []
    for key, array in arrays.items():
        if key.startswith(f"{OF_FUNCTION}/"):
            analyzer, tensor, constant = key.split("/")[1:]
            shape = " x ".join(map(str, array.shape)) or "one value"
            values = ", ".join(f"{value:.4g}" for value in array.ravel()[:SHOWN_VALUES].tolist())
            more = ", …" if array.size > SHOWN_VALUES else ""
            rows.append((labels[int(analyzer)][int(tensor)], constant, shape, values + more))
    columns = ("analyzer", "constant", "shape", "values")
    title = f"What {manifest.config['preprocessing_fn']} has learned"
    return [Table(columns=columns, rows=tuple(rows), title=title)] if rows else []


def _strangest(statistics: Statistics | None) -> np.float64:
    return np.float64(0) if statistics is None or not statistics.count.size else np.max(strangeness(statistics))


def _of_columns(name: str, statistics: Statistics) -> list[Block]:
    numbers = notable(strangeness(statistics))
    flat = {key: np.ravel(values) for key, values in statistics.arrays().items()}
    places = [", ".join(str(int(axis)) for axis in np.unravel_index(n, statistics.count.shape)) for n in numbers]
    rows: list[tuple[Any, ...]] = [
        (place, int(flat["count"][n]), int(flat["missing"][n]), *(f"{flat[key][n]:.4g}" for key in SHOWN_STATISTICS))
        for place, n in zip(places, numbers, strict=True)
    ]
    columns: tuple[str, ...] = ("column", "values:", "missing:", *(f"{key}:" for key in SHOWN_STATISTICS))
    if statistics.count.ndim == 0:  # one value is no column
        columns, rows = columns[1:], [row[1:] for row in rows]
    left_out = statistics.count.size - len(numbers)
    more = [f"… and {count_of(left_out, 'more column')}"] if left_out else []
    return [Table(columns=columns, rows=tuple(rows), title=name), *more]


def _of_classes(name: str, classes: Distinct, names: Sequence[str]) -> list[Block]:
    total, order = classes.counts.sum(), np.argsort(-classes.counts, kind="stable")[:SHOWN_CLASSES]
    rows: list[tuple[Any, ...]] = []
    for number in sorted(order.tolist()):
        value, count = classes.values[number], int(classes.counts[number])
        named = names[int(value)] if names and 0 <= int(value) < len(names) else None
        rows.append((str(value), named, count, f"{count / total:.1%}"))
    columns: tuple[str, ...] = ("class", "name", "rows:", "share:")
    if not names:
        columns, rows = ("class", "rows:", "share:"), [(row[0], *row[2:]) for row in rows]
    left_out = len(classes.values) - len(order)
    more = [f"… and {left_out:,} more, each of fewer rows"] if left_out else []
    return [Table(columns=columns, rows=tuple(rows), title=name), *more]
