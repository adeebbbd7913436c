"""Whether there is room for a data set, asked before anything is written."""

from __future__ import annotations

import os
import shutil

from pipelines.config.split_rules import BlockSplits, ColumnSplits
from pipelines.errors import OutputError
from pipelines.forecast.estimate import shard_row_bytes
from pipelines.output.directory import Output, read_manifest
from pipelines.plan.plan import Plan
from pipelines.results import show_bytes
from pipelines.sources.arrays import Arrays
from pipelines.storage import directories, files


def check_space(plan: Plan, output: Output, arrays: Arrays | None) -> None:
    """Compares the free space of a local directory with what a build or an append is certain to write.

    That is less than the forecast where a filter or the splits drop rows, or where rows vary in size. What an
    unfinished run has left counts as free: it is gone on with, or removed.

    Raises:
        OutputError: If there is too little.
    """
    if not files.is_local(output.root):
        return
    needed = least_bytes(plan) + sum(file.info.size for file in (arrays.files if arrays else ()) if not file.mapped)
    there = os.path.abspath(output.root)
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    free = shutil.disk_usage(there).free
    if needed <= free or needed <= free + _left_bytes(plan, output):
        return
    advice = "name a directory with more room"
    if files.exists(output.manifest) and not plan.adds_rows:
        advice += ", or remove the data set that is there, which would stay until the new one is finished"
    raise OutputError(
        f"{output.root}: expected room for {show_bytes(needed)}, which are to be written; "
        f"found {show_bytes(free)} free. Nothing was written; {advice}"
    )


def least_bytes(plan: Plan) -> int:
    """What the shards take at least: exactly that where no row can be dropped and all have one size."""
    if plan.config.filter is not None or isinstance(plan.config.splits, (BlockSplits, ColumnSplits)):
        return 0
    fixed = [spec.row_bytes for spec in plan.specs if not spec.variable]
    row_bytes = shard_row_bytes(plan) if len(fixed) == len(plan.specs) else sum(fixed)
    return round(plan.table.rows * row_bytes)


def _left_bytes(plan: Plan, output: Output) -> int:
    """The bytes of the shards that no manifest lists, and of sources that were arrays in memory."""
    splits = read_manifest(output.root).splits if files.exists(output.manifest) else {}
    listed = {shard.file for shards in splits.values() for shard in shards}
    found = [(f"{split}/", output.path(split)) for split in plan.splits]
    found.append(("", output.sources))
    return sum(
        file.size
        for prefix, directory in found
        if os.path.isdir(directory)
        for file in directories.list_files(directory)
        if prefix + file.path not in listed
    )
