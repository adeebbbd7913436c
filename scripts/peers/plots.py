"""Drawings of a benchmark's results."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from itertools import groupby
from typing import Any

LONG = 100
"""Bars that differ by more are drawn on a logarithmic axis, as the short ones could not be seen."""


def draw(found: Mapping[str, Any], image: pathlib.Path) -> None:
    """Draws the results of `build` and `load` as bars, those of `sizes` as lines.

    Args:
        found: The JSON of the results.
        image: The file, whose suffix says what kind of image it is.
    """
    import matplotlib

    matplotlib.use("Agg")
    # The same bytes for the same results, and text that stays text.
    matplotlib.rcParams |= {"svg.hashsalt": "npyflow", "svg.fonttype": "none"}
    import matplotlib.pyplot as plt

    figure = _sizes(plt, found) if found["command"] == "sizes" else _bars(plt, found)
    figure.savefig(image, metadata={"Date": None} if image.suffix == ".svg" else None)
    plt.close(figure)


def _sizes(plt: Any, found: Mapping[str, Any]) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for layout, records in groupby(found["results"], key=lambda record: record["kind"]):
        some = list(records)
        axis, key, unit = (right, "rows", 1e3) if layout == "one-row-a-file" else (left, "bytes", 1e9)
        says = {"tabular": "files of up to 256 MiB", "one-file": "one file"}.get(layout, "one row a file")
        axis.plot([one[key] / unit for one in some], [one["median"] for one in some], "o-", label=says)
    left.set_xlabel("GB of sources")
    right.set_xlabel("thousand files of features, and as many of labels")
    for axis in (left, right):
        axis.set_ylabel("seconds of npyflow build, start-up included")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def _bars(plt: Any, found: Mapping[str, Any]) -> Any:
    from matplotlib import ticker

    results = [record for record in found["results"] if record["rows_per_second"] and record["kind"] != "shards"]
    groups = [(key, list(some)) for key, some in groupby(results, key=lambda one: (one["kind"], one["batch"]))]
    count = max(len(groups), 1)
    figure, axes = plt.subplots(count, 1, figsize=(9, 0.8 + 0.32 * len(results)), layout="constrained", squeeze=False)
    for axis, ((kind, batch), records) in zip(axes[:, 0], groups, strict=True):
        records = sorted(records, key=lambda one: -one["median"])
        own = ["#d95f02" if one["peer"]["module"].startswith("npyflow") else "#7f7f7f" for one in records]
        rates = [one["bytes"] / one["median"] / 1e6 for one in records]
        bars = axis.barh([one["peer"]["says"].replace("`", "") for one in records], rates, color=own)
        axis.bar_label(bars, [f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}" for rate in rates], padding=3, fontsize=8)
        if max(rates) > LONG * min(rates):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.set_xlabel("MB/s, start-up included")
        axis.set_title(f"{found['command']}, {kind}" + (f", batches of {batch:,}" if batch else ""), fontsize=10)
        axis.tick_params(axis="y", labelsize=8)
        axis.margins(x=0.15)
    return figure
