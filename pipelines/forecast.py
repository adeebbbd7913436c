"""What a build will write, told before it begins."""

from __future__ import annotations

from typing import Any

from pipelines.plan import Plan, split_groups, stored_row_bytes
from pipelines.resolve import ResolvedConfig
from pipelines.split_rules import ColumnSplits, GroupSplits, StratifiedSplits, TimeSplits


def describe(plan: Plan) -> dict[str, Any]:
    """A forecast of the output: rows, bytes and shards of each split, and the bytes of rows that a task holds.

    Rows and bytes of a split are None where only the values of a feature tell; `note` says what kind of numbers the
    others are.
    """
    stored = stored_row_bytes(plan.config.features, plan.table, plan.config.custom)
    splits: dict[str, dict[str, int | None]] = {}
    for group, (shares, parts) in zip(plan.groups, split_groups(plan.table.parts, plan.config.splits), strict=True):
        rows = sum(plan.table.parts[part].rows for part in parts)
        for split, share in shares.items():
            expected = None if share is None else round(rows * share)
            size = None if expected is None else expected * stored
            splits[split] = {"rows": expected, "bytes": size, "shards": group.tasks}
    task_rows = max(sum(plan.table.parts[p].rows for p in group.parts) / group.tasks for group in plan.groups)
    return {
        "rows": plan.table.rows,
        "source_bytes": plan.table.nbytes,
        "task_bytes": round(task_rows * plan.table.row_bytes),
        "note": _forecast_note(plan.config),
        "splits": splits,
    }


def _forecast_note(config: ResolvedConfig) -> str:
    match config.splits:
        case str():
            note = ""
        case GroupSplits(group=feature):
            note = f"expected; the split of each group of equal {feature} is drawn by its hash"
        case StratifiedSplits(stratify=feature):
            note = f"expected; every class of {feature} has the same fractions"
        case ColumnSplits(column=feature) | TimeSplits(time=feature):
            note = f"the values of {feature} tell each row's split"
        case _:
            note = "expected; each row's split is drawn by its hash"
    dropped = "" if config.filter is None else "before rows are dropped by the filter"
    return ", ".join(filter(None, (note, dropped)))
