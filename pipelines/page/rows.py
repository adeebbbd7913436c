"""Rows to look at, one by one: of sources in their order, each feature as its own array."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from loaders.format.spec import FeatureSpec
from pipelines.page import shapes
from pipelines.plan.plan import Plan
from pipelines.plan.units import Units
from pipelines.reading.batches import Ragged, take
from pipelines.reading.columns import read_columns
from pipelines.reading.split_assignment import splits_of
from pipelines.sources.provenance import raw_specs

STAGE = "view"
READ_BYTES = 2**21
TILE = 96
"""The side of a picture."""

Row = dict[str, Any]


def specs_of(plan: Plan) -> tuple[FeatureSpec, ...]:
    """The features as the sources have them, with their classes' names."""
    names = {feature.name: feature.spec.class_names for feature in plan.config.features}
    return tuple(dataclasses.replace(spec, class_names=names.get(spec.name, ())) for spec in raw_specs(plan.table))


def read_rows(plan: Plan, split: str, start: int, stop: int) -> list[Row]:
    """Rows `[start, stop)` of a split of sources, in the order of the sources; fewer where there are no more."""
    unit_rows = int(max(min(stop, READ_BYTES // plan.table.row_bytes), 1))
    units = Units(parts=range(len(plan.table.parts)), part_rows=plan.table.part_rows, unit_rows=unit_rows)
    found: list[Row] = []
    before = 0
    for unit in range(len(units)):
        spans = units.spans(unit)
        own = np.flatnonzero(splits_of(plan, spans) == plan.splits.index(split))
        wanted = own[max(start - before, 0) : max(stop - before, 0)]
        if len(wanted):
            columns = take(read_columns(plan, spans, stage=STAGE, strict=False), wanted)
            rows = zip(*(shapes.single_rows(column, range(len(wanted))) for column in columns.values()), strict=True)
            found += [dict(zip(columns, row, strict=True)) for row in rows]
        before += len(own)
        if before >= stop:
            break
    return found


def shape_of(spec: FeatureSpec, rows: Sequence[Row]) -> shapes.Shape:
    """What rows of a feature look like."""
    return shapes.shape_of(spec, _stacked(spec, rows))


def _stacked(spec: FeatureSpec, rows: Sequence[Row]) -> Any:
    values = [np.asarray(row[spec.name]) for row in rows]
    if spec.ragged:
        lengths = np.array([len(value) for value in values], np.int64)
        return Ragged(values=np.concatenate(values), lengths=lengths)
    return np.stack(values)


def pictures_of(spec: FeatureSpec, rows: Sequence[Row], *, side: int) -> list[Any]:
    """Images or cubes as uint8 `[height, width, 3]`, no side longer than `side`, all in one scale of colours."""
    limits = shapes.limits_of(_stacked(spec, rows))
    return [shapes.shrink(shapes.as_pixels(np.asarray(row[spec.name]), limits), side) for row in rows]


def text_of(spec: FeatureSpec, row: Row) -> str:
    """The value of a row as text; of a class its name."""
    value = row[spec.name]
    names = spec.class_names
    if names and spec.shape == () and 0 <= int(value) < len(names):
        return names[int(value)]
    return shapes.as_text(value)


def contact_sheet(specs: Sequence[FeatureSpec], rows: Sequence[Row], *, first: int) -> bytes | None:
    """A PNG file with a picture of each row: its image, cube or curve; None where no feature is one.

    Their numbers begin with that of the `first` row.
    """
    from PIL import Image, ImageDraw

    shown = next((spec for spec in specs if shape_of(spec, rows) in ("image", "cube", "curve")), None)
    if shown is None:
        return None
    beside = [spec for spec in specs if spec is not shown and spec.shape == ()][:1]
    across = max(int(np.ceil(np.sqrt(len(rows)))), 1)
    down = -(-len(rows) // across)
    cell = TILE + 20
    sheet = Image.new("RGB", (across * cell, down * cell), (24, 27, 31))
    draw = ImageDraw.Draw(sheet)
    curves = shape_of(shown, rows) == "curve"
    pictures = [] if curves else pictures_of(shown, rows, side=TILE)
    for number, row in enumerate(rows):
        left, top = number % across * cell + 8, number // across * cell + 14
        said = ": ".join([str(first + number), *(text_of(spec, row)[:12] for spec in beside)])
        draw.text((left, top - 13), said.encode("latin-1", "replace").decode("latin-1"), fill=(200, 205, 210))
        if curves:
            for points in _polylines(np.asarray(row[shown.name]), left, top):
                draw.line(points, fill=(86, 180, 233))
        else:
            picture = Image.fromarray(pictures[number])
            scale = max(TILE // max(picture.size), 1)
            sheet.paste(
                picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST), (left, top)
            )
    return shapes.encode_png(sheet)


def _polylines(row: Any, left: int, top: int) -> Iterator[list[tuple[float, float]]]:
    curves = shapes.curves_of(row)
    finite = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    if finite.size:
        low, span = finite.min(), max(float(np.ptp(finite)), 1e-300)
        for curve in curves:
            step = (TILE - 1) / max(len(curve) - 1, 1)
            yield [
                (left + number * step, top + (TILE - 1) * (1 - (value - low) / span))
                for number, value in enumerate(curve.tolist())
                if np.isfinite(value)
            ]
