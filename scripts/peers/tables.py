"""The tables of a benchmark's results, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any


def show(found: Mapping[str, Any]) -> str:
    """The machine, the versions, a table for each kind (and size of batches), and what is missing."""
    lines = [_conditions(found)]
    for (kind, batch), records in groupby(found["results"], key=lambda record: (record["kind"], record["batch"])):
        rows = list(records)
        what = f"{kind}, {rows[0]['rows']:,} rows, {rows[0]['bytes'] / 1e6:,.0f} MB"
        title = f"{found['command']}, {what}" + (f", shuffled, batches of {batch:,}" if batch else "")
        title += f", epoch {found['epochs']}" if found.get("epochs", 1) > 1 else ""
        lines += ["", f"**{title}**", "", *_table(rows, found)]
    lines += ["", *(f"- {name}: not measured: {why}" for name, why in found["missing"].items())]
    return "\n".join(lines).rstrip()


def _conditions(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    versions: dict[str, dict[str, str]] = {"npyflow": dict(machine["packages"])}
    for record in found["results"]:
        versions.setdefault(record["peer"]["environment"] or "npyflow", {}).update(record["versions"])
    shown = "; ".join(
        f"{environment}: " + ", ".join(f"{name} {version}" for name, version in sorted(some.items()))
        for environment, some in sorted(versions.items())
        if some
    )
    cap = f"; a run may use {found['memory'] / 1e9:.1f} GB of memory" if found["memory"] else ""
    return (
        f"{found['date']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory_bytes'] / 2**30:.0f} GiB of "
        f"memory{cap}, {machine['system']}, Python {machine['python']}; medians of {found['runs']} alternating runs. "
        f"Environments: {shown}."
    )


def _table(records: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> list[str]:
    start = "first batch s" if found["command"] == "load" else "start-up s"
    head = ["", "npyflow is so many times as fast", "without start-up", "rows/s", "MB/s", "seconds", start, "peak MB"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *(_row(record, found["runs"]) for record in records)]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _row(record: Mapping[str, Any], runs: int) -> list[str]:
    says = record["peer"]["says"]
    if record["error"]:
        return [says, f"failed: {record['error'][:200]}".replace("|", "\\|"), *[""] * 6]
    notes = "" if record["complete"] else " (part of the epoch)"
    notes += "" if len(record["seconds"]) == runs else f" ({len(record['seconds'])} run)"
    first = record["first_batch"] or record["startup"]
    return [
        says + notes,
        _number(record["ratio"]),
        _number(record["ratio_after_startup"]),
        _number(record["rows_per_second"]),
        _number(record["bytes_per_second"], 1e6),
        f"{record['median']:.2f} ({min(record['seconds']):.2f} to {max(record['seconds']):.2f})",
        f"{sorted(first)[len(first) // 2]:.2f}",
        f"{record['peak_bytes'] / 1e6:,.0f}",
    ]


def _number(value: float | None, unit: float = 1) -> str:
    """A number with three digits, or nothing."""
    if value is None:
        return ""
    value /= unit
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
