"""The shards that tasks have written, checked: none is missing, no row is lost or doubled."""

from __future__ import annotations

from collections.abc import Sequence

from loaders.format.manifest import Shard
from pipelines.errors import NpyflowError
from pipelines.output.tasks import Written
from pipelines.plan.plan import Plan


class PublishError(NpyflowError):
    """A build whose shards do not add up to its sources."""


def gather(plan: Plan, tasks: Sequence[Written]) -> dict[str, tuple[Shard, ...]]:
    """The shards of each split in order; a PublishError where one is missing, or rows were lost or doubled."""
    found = {shard.file: shard for task in tasks for shard in task.shards.values()}
    splits = {}
    for split in plan.splits:
        names = [plan.shard_file(split, index) for index in range(plan.shard_count(split))]
        missing = [name for name in names if name not in found]
        if missing:
            raise PublishError(f"expected shard {missing[0]} to be written ({len(missing)} are not)")
        splits[split] = tuple(found[name] for name in names)
    rows = sum(shard.rows for shards in splits.values() for shard in shards)
    dropped = sum(task.dropped for task in tasks)
    if rows + dropped != plan.table.rows:
        raise PublishError(f"expected {plan.table.rows} rows in the shards; found {rows}, and {dropped} were dropped")
    return splits
