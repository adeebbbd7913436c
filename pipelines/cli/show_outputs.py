"""What `status` and `leakage` show of an output directory."""

from __future__ import annotations

import time

from rich.console import Console

from pipelines.cli.progress import show_bytes, show_seconds
from pipelines.cli.show import make_table
from pipelines.maintain.leakage import Leaks
from pipelines.maintain.status import Status


def show_leaks(console: Console, leaks: Leaks) -> None:
    """Shows how many rows each two splits share, and some of them."""
    compared = f"{leaks.rows:,} rows compared by {', '.join(leaks.features)}"
    if not leaks.distinct:
        console.print(f"No row is in more than one split: {compared}", highlight=False)
        return
    console.print(f"{leaks.distinct:,} different rows are in more than one split: {compared}\n", highlight=False)
    table = make_table("splits", "different rows in both:", "rows of the first:", "rows of the second:")
    for pair in leaks.pairs:
        table.add_row(" and ".join(pair.splits), f"{pair.distinct:,}", *(f"{count:,}" for count in pair.rows))
    console.print(table)
    console.print("\nExamples (shard, row):\n", style="bold")
    for places in leaks.examples:
        shown = ", ".join(f"{place.file} {place.row}" for place in places)
        console.print(f"  {shown}", highlight=False, markup=False, soft_wrap=True)


def describe_status(status: Status, *, now: float | None = None) -> list[str]:
    """What a person is shown: a line for each thing that is known."""
    about = "" if status.exact else "about "
    written = f"{show_bytes(status.bytes_done)} in {status.shards_done:,}"
    if status.state == "finished":
        return [f"{status.root}: finished; {status.rows_done:,} rows, {written} shards"]
    what = "an append" if status.state == "appending" else "a build"
    lines = [f"{status.root}: {what} that is not finished" + (f", of {status.sources}" if status.sources else "")]
    if status.state == "building":
        lines.append(f"analysis: {'done' if status.analyzed else 'not done'}")
    lines.append(
        f"writing: {status.tasks_done:,}{_of(status.tasks)} tasks; {about}{status.rows_done:,}{_of(status.rows)} rows, "
        f"{written}{_of(status.shards)} shards"
    )
    if status.last is not None:
        ago = max((time.time() if now is None else now) - status.last, 0.0)
        lines.append(f"the last task was done {show_seconds(ago)} ago")
    if status.tasks_per_second is not None and status.seconds_left is not None:
        lines.append(
            f"speed: {status.tasks_per_second:.3g} tasks/s; writing would take {show_seconds(status.seconds_left)} more"
        )
    if status.at_work is not None:
        lines.append(f"at work: {status.at_work}")
    else:
        lines.append("at work: no driver on record; the same command goes on where a build has stopped")
    return lines


def _of(total: int | None) -> str:
    return "" if total is None else f" of {total:,}"
