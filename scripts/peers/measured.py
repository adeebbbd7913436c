"""Runs of several tools in turn, and how they compare."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peers.process import Ran
from peers.table_of_peers import Peer


class FailedError(Exception):
    """A tool ended with an error, or delivered other rows."""


DERIVED = ("median", "median_startup", "rows_per_second", "bytes_per_second", "ratio", "ratio_after_startup")


@dataclasses.dataclass(kw_only=True)
class Measured:
    """The runs of one peer: one entry of `results` in the JSON, apart from the ratios.

    Attributes:
        peer: What runs.
        kind: The kind of rows.
        batch: The size of batches; 0 for a build.
        bytes: The bytes of all rows in the sources.
        rows: How many there are.
        startup: Seconds until the imports are done; for a build, those that one of next to nothing takes.
        seconds: Seconds of whole runs, start-up included.
        first_batch: Seconds from then to the first batch.
        paces: Seconds a row after start-up, where the peer itself can tell.
        peak_bytes: The largest resident memory of any process of any run.
        verified: Whether the rows that it delivers have been compared with those of the sources.
        complete: Whether every epoch went to its end.
        error: Why it failed.
        versions: Of its packages.
    """

    peer: Peer
    kind: str
    batch: int
    bytes: int
    rows: int
    startup: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    first_batch: list[float] = dataclasses.field(default_factory=list)
    paces: list[float] = dataclasses.field(default_factory=list)
    peak_bytes: int = 0
    verified: bool = False
    complete: bool = True
    error: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def add(self, ran: Ran) -> None:
        """Takes in one run; an epoch that was cut short counts as if it had gone on at its pace."""
        found = ran.result
        self.versions = found.get("versions", self.versions)
        self.peak_bytes = max(self.peak_bytes, ran.peak_bytes)
        if "startup" not in found:
            self.seconds.append(ran.seconds)
            self.paces += [found["pace"]] if "pace" in found else []
            return
        epoch = found["first_batch"] + found["pace"] * (self.rows - found["first_rows"])
        self.paces.append(epoch / self.rows)
        self.startup.append(found["startup"])
        self.first_batch.append(found["first_batch"])
        self.seconds.append(found["startup"] + epoch)
        self.complete = self.complete and found["complete"]

    def record(self) -> dict[str, Any]:
        """The JSON of it."""
        found = dataclasses.asdict(self) | dict.fromkeys(DERIVED)
        if self.seconds:
            median, startup = statistics.median(self.seconds), statistics.median(self.startup)
            found |= {"median": median, "median_startup": startup}
            # Of a difference of times that is small beside them nothing can be said.
            after = self.rows * statistics.median(self.paces) if self.paces else median - startup
            if self.paces or median > 1.1 * startup:
                found |= {"rows_per_second": self.rows / after, "bytes_per_second": self.bytes / after}
        return found


def alternate(measured: Sequence[Measured], once: Callable[[Measured], Ran], *, runs: int, patience: float) -> None:
    """Runs the peers one after the other, `runs` times; one whose run takes longer than `patience` runs only once."""
    for number in range(runs):
        for one in measured:
            if one.error or (one.seconds and one.seconds[-1] > patience):
                continue
            try:
                ran = once(one)
                one.add(ran)
            except FailedError as error:
                one.error = str(error)
            say(f"{one.kind} {one.peer.name} run {number + 1}: {one.error or f'{one.seconds[-1]:.2f} s'}")


def compare(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Records with ratios: how many times npyflow is as fast, start-up included and not."""
    records = [one.record() for one in measured]
    ours = next((record for record in records if record["peer"]["name"] == "npyflow" and record["median"]), None)
    for record in records:
        if ours and record["median"]:
            record["ratio"] = record["median"] / ours["median"]
            if ours["rows_per_second"] and record["rows_per_second"]:
                record["ratio_after_startup"] = ours["rows_per_second"] / record["rows_per_second"]
    return records


def say(message: str) -> None:
    """Tells the person who waits."""
    print(message, file=sys.stderr, flush=True)
