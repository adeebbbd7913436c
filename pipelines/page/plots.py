"""Plots as SVG that takes its colours from the page: drawn by pygal, without its styles, scripts and dates."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pygal
from pygal.etree import etree

from pipelines.page import shapes

F64 = npt.NDArray[np.float64]

WIDTH, HEIGHT = 420, 180
TURNED_BARS = 12
"""Classes that have room where their names are turned."""

_OVERLAYS = ("overlay", "text-overlay", "tooltip-overlay")
_SETTINGS: dict[str, Any] = {
    "width": WIDTH,
    "height": HEIGHT,
    "margin": 4,
    "spacing": 6,
    "js": [],
    "css": [],
    "no_prefix": True,
    "show_legend": False,
    "show_dots": False,
    "truncate_label": 14,
    "max_scale": 5,
    "min_scale": 2,
}


def histogram(edges: F64, shares: Mapping[str, F64], *, label: str, unit: str = "") -> str:
    """Histograms of several splits over each other: per cent of their values in each bin, whose edges are `[bins + 1]`.

    The label is what a screen reader says. Values of a unit of times are shown as times.
    """
    chart = pygal.XY(fill=True, x_labels=_ticks(edges[0], edges[-1]), formatter=_short, **_SETTINGS)
    chart.x_value_formatter = lambda value: shapes.as_time(value, unit) or _short(value)
    xs = np.repeat(edges, 2)
    for split, share in shares.items():
        ys = np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
        chart.add(split, list(zip(xs.tolist(), ys.tolist(), strict=True)))
    return _svg(chart, label, kind="plot-svg filled")


def lines(curves: Mapping[str, F64], *, label: str, first: float = 0.0, step: float = 1.0) -> str:
    """Curves over the number of the element; values that are missing are gaps."""
    last = first + step * max((len(curve) - 1 for curve in curves.values()), default=1)
    chart = pygal.XY(x_labels=_ticks(first, last), allow_interruptions=True, formatter=_short, **_SETTINGS)
    chart.x_value_formatter = _short
    for name, curve in curves.items():
        points = [(first + step * n, float(y) if np.isfinite(y) else None) for n, y in enumerate(curve)]
        chart.add(name, points)
    return _svg(chart, label)


def sparkline(curves: Sequence[F64], *, label: str) -> str:
    """The curves of one row, small and without axes."""
    plain = {**_SETTINGS, "width": 160, "height": 40, "margin": 2, "spacing": 0}
    chart = pygal.XY(show_x_labels=False, show_y_labels=False, show_x_guides=False, show_y_guides=False, **plain)
    for number, curve in enumerate(curves):
        step = max(len(curve) // 160, 1)
        known = [(n, y) for n, y in enumerate(curve[::step].tolist()) if np.isfinite(y)]
        chart.add(str(number), known or [(0, 0)])
    return _svg(chart, label, kind="plot-small")


def bars(labels: Sequence[str], shares: Mapping[str, Sequence[float]], *, label: str) -> str:
    """Per cent by class, the splits beside one another."""
    angle = 30 if are_long(labels) else 0
    chart = pygal.Bar(x_labels=list(labels), formatter=_short, include_x_axis=True, x_label_rotation=angle, **_SETTINGS)
    for split, share in shares.items():
        chart.add(split, list(share))
    return _svg(chart, label)


def are_long(labels: Sequence[str]) -> bool:
    """Whether labels have no room beside one another and are turned; then `TURNED_BARS` have room."""
    return sum(map(len, labels)) > 48


def _short(value: float) -> str:
    return shapes.as_number(value, digits=4)


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers between two others."""
    span = float(high - low)
    if not np.isfinite(span) or span <= 0:
        return [float(low)]
    unit = 10.0 ** np.floor(np.log10(span / 3))
    step = unit * next((factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= 5), 10)
    return [float(f"{value:.6g}") + 0.0 for value in np.arange(np.ceil(low / step) * step, high + step * 1e-9, step)]


def _svg(chart: Any, label: str, *, kind: str = "plot-svg") -> str:
    """The elements that show something, with what a screen reader says."""
    etree.to_etree()  # the same bytes whether lxml is installed
    root = chart.render_tree()
    for parent in list(root.iter()):
        for child in list(parent):
            if not _is_shown(child):
                parent.remove(child)
    root.attrib.pop("id", None)
    root.attrib |= {"class": kind, "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def _is_shown(element: Any) -> bool:
    if not isinstance(element.tag, str) or element.tag in ("defs", "title", "desc"):
        return False
    classes = element.get("class", "").split()
    return not set(classes) & set(_OVERLAYS) and (element.tag != "g" or len(element) > 0)
