"""What a build will read, write and take, told before it begins."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

from loaders.format.record_layout import record_layout
from pipelines.analyze import rounds
from pipelines.config.resolved import ResolvedConfig
from pipelines.config.split_rules import BlockSplits, ColumnSplits, GroupSplits, SplitRule, StratifiedSplits, TimeSplits
from pipelines.plan.plan import Plan, split_groups
from pipelines.plan.resolve import stored_row_bytes
from pipelines.reading.split_assignment import needed

ORDER_BYTES = 32
"""What a task has for each row beside its values: hash and number, the order, the split, and a copy while sorting."""


def describe(plan: Plan) -> dict[str, Any]:
    """A forecast of the output: rows, bytes and shards of each split, and the bytes of rows that a task holds.

    Rows and bytes of a split are None where only the values of a feature tell; `note` says what kind of numbers the
    others are.
    """
    stored = shard_row_bytes(plan)
    splits: dict[str, dict[str, int | None]] = {}
    for group, (shares, parts) in zip(plan.groups, split_groups(plan.table.parts, plan.config.splits), strict=True):
        rows = plan.table.rows_of(parts)
        for split, share in shares.items():
            expected = None if share is None else round(rows * share)
            size = None if expected is None else round(expected * stored)
            splits[split] = {"rows": expected, "bytes": size, "shards": group.tasks}
    return {
        "rows": plan.table.rows,
        "source_bytes": plan.table.nbytes,
        "task_bytes": round(task_rows(plan) * plan.table.row_bytes),
        "note": _forecast_note(plan.config),
        "splits": splits,
    }


def task_rows(plan: Plan) -> float:
    """The rows of a task of the group whose tasks have most."""
    return max(plan.table.rows_of(group.parts) / group.tasks for group in plan.groups)


def shard_row_bytes(plan: Plan) -> float:
    """The bytes of a row in a shard: those of a full record, framing included, where all rows have one size."""
    if any(spec.variable for spec in plan.specs):
        return stored_row_bytes(plan.config.features, plan.table, plan.config.custom)
    rows = plan.rows_per_record
    return record_layout(tuple(plan.specs), rows=rows, rows_per_record=rows).frame_bytes / rows


def read_bytes(plan: Plan, *, learns: bool = True) -> dict[str, int]:
    """The bytes of the sources' values that each stage reads, as `counters.count_read` counts them.

    Returns:
        Stage → bytes: `analyze` in all rounds, and in the phases of a user's own function, if it `learns`; `write`; and
        `split` where a feature's values tell the splits: it is read with each unit and each task.
    """
    sizes = {feature.name: feature.row_bytes for feature in plan.table.features}
    features = rounds.analyzed_features(plan)
    schedule = rounds.schedule(features.values()) if learns else ()
    names = [rounds.inputs_of_round(needs, features) for needs in schedule]
    custom = plan.config.custom
    names += custom.phases if learns and custom is not None and custom.traced is None else ()
    analyzed = plan.training_units.rows * sum(sizes[name] for own in names for name in own)
    of_rule = sum(sizes[name] for name in needed(plan)) * (plan.training_units.rows * len(names) + plan.table.rows)
    found = {"split": round(of_rule), "analyze": round(analyzed), "write": plan.table.nbytes}
    return {stage: size for stage, size in found.items() if size}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured of a build on a sample of its sources, with one worker.

    Attributes:
        imports: The seconds that it took to import TensorFlow, tf.transform and Beam.
        wiring: The seconds that it took to run a small pipeline, and to make the transform of what was learned.
        rounds: For each round of pass 1, the seconds for a row.
        begin_writing: The seconds that pass 2 takes longer for the first task of a worker.
        write: The seconds of pass 2 for a row.
        shard_row_bytes: The bytes of shards for a row.
        base_bytes: The memory of a process that has imported all, before it holds rows.
        batch_bytes: What a task takes beside the rows that it holds.
        rows_analyzed: How many rows were read in a round, at most.
        rows_written: How many rows were transformed, encoded and written.
        sum_bytes: The bytes of the sums of a unit, in all rounds, as they travel.
    """

    imports: float
    wiring: float
    rounds: tuple[float, ...]
    begin_writing: float
    write: float
    shard_row_bytes: float
    base_bytes: int
    batch_bytes: int
    rows_analyzed: int
    rows_written: int
    sum_bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seconds:
    """How long a build takes with so many workers.

    Attributes:
        begin: Until all is imported, wired and exported.
        analyze: Pass 1, as far as it does not go on while a process imports.
    """

    begin: float
    analyze: float
    write: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.begin + self.analyze + self.write


def memory(plan: Plan, calibration: Calibration) -> int:
    """The memory of a worker in bytes: what is imported, one task's rows, and a batch."""
    rows = task_rows(plan) * (plan.table.row_bytes + ORDER_BYTES)
    return round(calibration.base_bytes + calibration.batch_bytes + rows)


def seconds(plan: Plan, calibration: Calibration, *, workers: int, forked: bool) -> Seconds:
    """The time of a build by workers that each have a core like the one that was measured.

    If they are `forked`, processes of this machine, all but one read rows while that one imports.
    """
    ranges = max(len(plan.training_units.runs()), 1)
    passes = [plan.training_units.rows * speed for speed in calibration.rounds]
    shared = [time / min(workers, ranges) for time in passes]
    if forked and workers > 1 and passes:
        shared[0] = max(passes[0] / min(workers - 1, ranges) - calibration.imports, 0.0)
    waves = -(-plan.task_count // workers) / plan.task_count
    write = calibration.begin_writing + waves * plan.table.rows * calibration.write
    return Seconds(begin=calibration.imports + calibration.wiring, analyze=sum(shared), write=write)


def _forecast_note(config: ResolvedConfig) -> str:
    match config.splits:
        case str():
            note = ""
        case GroupSplits(group=feature):
            note = f"expected; the split of each group of equal {feature} is drawn by its hash"
        case StratifiedSplits(stratify=feature):
            note = f"expected; every class of {feature} has the same fractions"
        case BlockSplits(blocks=feature):
            note = f"expected; blocks of {feature} are split, and rows dropped that reach into two splits"
        case ColumnSplits(column=feature) | TimeSplits(time=feature):
            note = f"the values of {feature} tell each row's split"
        case _:
            note = "expected; each row's split is drawn by its hash"
    dropped = "" if config.filter is None else "before rows are dropped by the filter"
    return ", ".join(filter(None, (note, dropped)))


def describe_overlap(config: ResolvedConfig) -> str:
    """That rows of two splits share values of an array, and how they would not; or ""."""
    splits, cuts = config.splits, {f.name: f.window for f in config.features if f.window is not None}
    # Of these two rows may hold the same values.
    wide = next((name for name, cut in cuts.items() if any(map(operator.gt, cut.sizes, cut.strides))), None)
    apart = isinstance(splits, str | BlockSplits) or (
        isinstance(splits, SplitRule) and not isinstance(splits, StratifiedSplits) and splits.feature in cuts
    )
    alone = len(splits.shares if isinstance(splits, SplitRule) else splits) < 2
    if wide is None or apart or alone:
        return ""
    sizes = [10 * size for size in cuts[wide].sizes]
    how = f"`splits: {{blocks: {wide}, size: {sizes}, fractions: {{…}}}}`"
    return f"Rows of {wide} overlap, so two splits share values; {how} keeps them apart"
