"""A few raw rows and what the transform makes of them, kept beside it, so that a serving program can be checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest
from loaders.format.names import GOLDEN
from loaders.format.savedmodel import GRAPHS, ONLY_COMPUTES, find_other, load_model, read_model
from pipelines.config.schema import RESERVED_SUFFIX
from pipelines.errors import Problem
from pipelines.lazy import tf
from pipelines.plan.plan import Plan
from pipelines.plan.units import Span
from pipelines.reading.batches import Columns, take
from pipelines.reading.columns import read_columns
from pipelines.reading.split_assignment import assign
from pipelines.storage import files
from pipelines.storage.npz_bytes import dump_arrays, load_arrays
from pipelines.write.transform import graph_inputs, load_transform

STAGE = "golden"
ROWS = 16

TOLERANCE = 1e-6
"""The relative difference that other hardware may make in logarithms and the like."""


def make_golden(plan: Plan, transform: str) -> bytes:
    """The first training rows as the graph of a transform takes them (`raw/<input>`), and gives them, as `.npz`."""
    raw = graph_inputs(plan.config, _first_rows(plan))
    arrays = {f"raw/{name}": tensor.numpy() for name, tensor in raw.items()}
    outputs = load_transform(transform).transform_fn(raw)
    arrays |= {f"transformed/{name}": tensor.numpy() for name, tensor in outputs.items()}
    # A SavedModel does not always give its outputs in one order.
    return dump_arrays({name: _plain(arrays[name]) for name in sorted(arrays)})


def _first_rows(plan: Plan) -> Columns:
    names = tuple(feature.name for feature in plan.config.graph_features)
    for unit in range(len(plan.training_units)):
        spans = plan.training_units.spans(unit)
        training = np.flatnonzero(assign(plan, spans) == plan.training_index)[:ROWS]
        if len(training):
            first, last = int(training[0]), int(training[-1])
            columns = read_columns(plan, _within(spans, first, last + 1), stage=STAGE, features=names, strict=False)
            return take(columns, training - first)
    return read_columns(plan, [], stage=STAGE, features=names)


def _within(spans: Sequence[Span], start: int, stop: int) -> list[Span]:
    """What lies in a range of the spans' rows, counted over all of them."""
    found, offset = [], 0
    for span in spans:
        first, last = max(start - offset, 0), min(stop - offset, span.rows)
        if first < last:
            found.append(Span(part=span.part, start=span.start + first, stop=span.start + last))
        offset += span.rows
    return found


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Strings without Python objects, which are never unpickled."""
    return array.astype(np.bytes_) if array.dtype == object else array


def check_golden(root: str, manifest: Manifest, *, trust: bool) -> Iterator[Problem]:
    """Runs the transform of a data set on the rows that are kept for this, and yields what is wrong.

    One that does more than compute is not run, unless it is trusted.
    """
    path, transform = (files.join(root, place) for place in (manifest.place(GOLDEN), str(manifest.transform)))
    if not files.exists(path):  # a data set of format version 1
        return
    contents = read_model(manifest, lambda name: files.read_bytes(files.join(root, name)), root=root, trust=True)
    if not trust and (others := find_other(contents[GRAPHS])):
        yield Problem(path=transform, expected=f"{ONLY_COMPUTES} (--trust runs any)", found=", ".join(others))
        return
    arrays = load_arrays(files.read_bytes(path))
    raw = {key.removeprefix("raw/"): tf.constant(array) for key, array in arrays.items() if key.startswith("raw/")}
    found = load_model(contents).transform_fn(raw)
    for key, expected in arrays.items():
        name = key.removeprefix("transformed/")
        if key == name:
            continue
        values = _plain(found[name].numpy()) if name in found else None
        if values is not None and name.endswith(RESERVED_SUFFIX):
            values, expected = values.view(np.float64), expected.view(np.float64)
        if values is None or not _equal(values, expected):
            shown = "no such output" if values is None else "other values"
            yield Problem(path=transform, feature=name, expected=f"the rows that {GOLDEN} holds", found=shown)


def _equal(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> bool:
    if found.shape != expected.shape:
        return False
    if found.dtype.kind == "f":
        return bool(np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool((found == expected).all())
