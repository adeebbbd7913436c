"""Measures how fast a loader feeds a training, where its time goes, and what would change it.

NumPy only; TensorFlow is imported by what measures `loaders.load`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

from loaders.diagnostics import timing
from loaders.diagnostics.measured import Advice, MeasuredLoader, NumpyLoader, Stage
from loaders.diagnostics.timing import Step
from loaders.storage.files import read_manifest
from loaders.storage.remote import is_remote

LoaderName = Literal["tf", "numpy"]
LOADERS: tuple[LoaderName, ...] = ("tf", "numpy")

WORTHWHILE = 1.1
"""A change is advised where it makes the loader at least this many times as fast."""

PROBE_SHARE = 0.4
"""Each stage, and each change, is measured for this share of the time that the loader is."""

LARGER, MORE_AHEAD = 4, 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """What was measured.

    Attributes:
        root: The data set.
        split: The name of the split.
        loader: Which loader: "tf" is `loaders.load`, "numpy" is `loaders.numpy.Loader`.
        batch_size: The rows of a batch.
        rows: How many rows were read after the first batch.
        seconds: In how much time.
        rows_per_second: Their ratio.
        bytes_per_second: The same in bytes of the shards.
        first_batch_seconds: The time from making the loader to its first batch; imports are not in it.
        peak_bytes: The most memory that the process had of its own while the loader ran. Pages of the shards, which the
            system can take back, do not count on Linux.
        base_bytes: What it had before the loader was made.
        stages: Where the time goes.
        stages_how: How that was measured, in a sentence.
        step: How a training step would be fed; None where none was asked for.
        advice: What would make it faster, the most effective change first; empty where the step does not starve.
    """

    root: str
    split: str
    loader: LoaderName
    batch_size: int
    rows: int
    seconds: float
    rows_per_second: float
    bytes_per_second: float
    first_batch_seconds: float
    peak_bytes: int
    base_bytes: int
    stages: tuple[Stage, ...]
    stages_how: str
    step: Step | None
    advice: tuple[Advice, ...]

    @property
    def batch_seconds(self) -> float:
        """How long the loader takes for a batch: no step that is shorter can be fed."""
        return self.batch_size / self.rows_per_second

    def to_json(self) -> dict[str, Any]:
        """The numbers as JSON values."""
        step = None if self.step is None else dataclasses.asdict(self.step) | {"starves": self.step.starves}
        return dataclasses.asdict(self) | {"batch_seconds": self.batch_seconds, "step": step}


def measure(
    root: str | os.PathLike[str],
    split: str = "train",
    *,
    batch_size: int = 256,
    loader: LoaderName = "tf",
    step_ms: float | None = None,
    seconds: float = 5.0,
) -> Bench:
    """Runs a loader, shuffled and without end, and measures it.

    The loader and the training step are measured for `seconds` each, the stages and what is tried as a change for
    `PROBE_SHARE` of that each. Each measurement has a seed of its own, so that what one has read is not what the next
    one reads first.

    Args:
        root: The directory of a finished build; a local one for "numpy".
        split: The name of a split.
        batch_size: The rows of a batch.
        loader: "tf" for `loaders.load`, "numpy" for `loaders.numpy.Loader`.
        step_ms: The length of a training step in milliseconds, simulated by a sleep: all cores are left to the loader,
            as by a step on an accelerator.
        seconds: How long to measure.

    Returns:
        What was measured.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        ValueError: If an option's value is not allowed, or the split has no rows.
    """
    if loader not in LOADERS:
        raise ValueError(f"loader is one of {', '.join(LOADERS)}; found {loader!r}")
    if batch_size < 1 or not seconds > 0 or (step_ms is not None and not step_ms > 0):
        raise ValueError(
            f"batch_size is at least 1, seconds and step_ms are above 0; found {batch_size}, {seconds}, {step_ms}"
        )
    path = os.fspath(root)
    if loader == "numpy" and is_remote(path):
        raise ValueError(f"{path}: expected a local directory, whose shards are mapped; --loader tf reads alternatives")
    manifest = read_manifest(path)
    if not manifest.rows(split):
        raise ValueError(f"{path}: split {split}: expected rows; found none")
    measured = _measured(loader)(path, manifest, split)
    row_bytes = sum(shard.bytes for shard in manifest.shards(split)) / manifest.rows(split)
    memory = timing.Memory()
    pace = timing.pace(lambda: measured.batches(batch_size, seed=0), seconds, memory)
    step = None
    if step_ms is not None:
        step = timing.feed(measured.batches(batch_size, seed=1), step_ms / 1000, seconds, memory)
    peak = memory.peak  # before the stages, which are not the loader
    stages = measured.stages(batch_size, PROBE_SHARE * seconds)
    bench = Bench(
        root=path,
        split=split,
        loader=loader,
        batch_size=batch_size,
        rows=int(pace.rows),
        seconds=pace.seconds,
        rows_per_second=pace.rate,
        bytes_per_second=pace.rate * row_bytes,
        first_batch_seconds=pace.first,
        peak_bytes=peak,
        base_bytes=memory.base,
        stages=stages,
        stages_how=measured.stages_how,
        step=step,
        advice=(),
    )
    if step is not None and not step.starves:
        return bench
    tried = _try(measured, bench, PROBE_SHARE * seconds)
    advice = sorted((change for change in tried if change.factor >= WORTHWHILE), key=lambda change: -change.factor)
    return dataclasses.replace(bench, advice=tuple(advice))


def _measured(loader: LoaderName) -> type[MeasuredLoader]:
    if loader == "numpy":
        return NumpyLoader
    from loaders.diagnostics.measured_tensorflow import TensorFlowLoader  # with TensorFlow, which only this needs

    return TensorFlowLoader


def _try(measured: MeasuredLoader, bench: Bench, seconds: float) -> Iterator[Advice]:
    """Runs what could be changed."""
    size, larger = bench.batch_size, LARGER * bench.batch_size

    def rate(make: Callable[[], Iterator[float]]) -> float:
        return timing.pace(make, seconds).rate

    alternatives = measured.alternatives(size)
    if larger <= measured.manifest.rows(measured.split):
        alternatives[f"larger batches, such as of {larger:,} rows"] = lambda: measured.batches(larger, seed=5)
    # What was read before is read faster, so a change has to beat the loader as it was before and after it.
    now = rate(lambda: measured.batches(size, seed=3))
    rates = {change: rate(make) for change, make in alternatives.items()}
    now = max(now, rate(lambda: measured.batches(size, seed=6)))
    for change, found in rates.items():
        yield Advice(change=change, factor=found / now)
    yield from measured.derived_advice(bench.stages, now)
    # Where a batch takes longer than a step, no number of batches ahead lasts.
    if bench.step is not None and size / now < bench.step.seconds:
        more = timing.feed(measured.batches(size, seed=7, ahead=MORE_AHEAD), bench.step.seconds, bench.seconds)
        factor = (1 - more.waiting) / (1 - bench.step.waiting)
        yield Advice(change=f"more batches ahead, such as prefetch={MORE_AHEAD}", factor=factor)
