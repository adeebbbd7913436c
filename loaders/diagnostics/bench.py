"""Measures how fast a loader feeds a training, where its time goes, and what would change it.

NumPy only; TensorFlow is imported by what measures `loaders.load`.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import loaders
from loaders import data_set
from loaders.diagnostics import timing
from loaders.diagnostics.timing import CHECKSUM, DECODE, READ, Step
from loaders.format.manifest import Manifest
from loaders.numpy import Loader
from loaders.order.chunks import Chunks, window_rows
from loaders.storage.remote import is_remote

LoaderName = Literal["tf", "numpy"]
LOADERS: tuple[LoaderName, ...] = ("tf", "numpy")

WORTHWHILE = 1.1
"""A change is advised where it makes the loader at least this many times as fast."""

PROBE_SHARE = 0.4
"""Each stage, and each change, is measured for this share of the time that the loader is."""

LARGER, MORE_AHEAD = 4, 64
READ_BYTES = 1 << 20
PARALLEL_READS = 4

FASTER_DISK = "a faster disk, or memory that holds the shards"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of what a loader does.

    Attributes:
        name: What it does.
        seconds_per_row: The time that it adds to a row.
        share: Its share of the time of all stages.
    """

    name: str
    seconds_per_row: float
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """A change that was measured to help.

    Attributes:
        change: What to change.
        factor: How many times as fast it makes the loader, or the training where the change is one of reading ahead.
    """

    change: str
    factor: float


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
    found = data_set.read(local_root(root) if loader == "numpy" else root)
    if not found.manifest.rows(split):
        raise ValueError(f"{found.root}: split {split}: expected rows; found none")
    place = (found.root, found.manifest, split)
    subject: _Subject = _Tf(*place) if loader == "tf" else _Numpy(*place)
    memory = timing.Memory()
    pace = timing.pace(lambda: subject.batches(batch_size, seed=0), seconds, memory)
    step = None
    if step_ms is not None:
        step = timing.feed(subject.batches(batch_size, seed=1), step_ms / 1000, seconds, memory)
    peak = memory.peak  # before the stages, which are not the loader
    stages = subject.stages(batch_size, PROBE_SHARE * seconds)
    bench = Bench(
        root=found.root,
        split=split,
        loader=loader,
        batch_size=batch_size,
        rows=int(pace.rows),
        seconds=pace.seconds,
        rows_per_second=pace.rate,
        bytes_per_second=pace.rate * _row_bytes(found.manifest, split),
        first_batch_seconds=pace.first,
        peak_bytes=peak,
        base_bytes=memory.base,
        stages=stages,
        stages_how=subject.how,
        step=step,
        advice=(),
    )
    if step is not None and not step.starves:
        return bench
    tried = _try(subject, bench, PROBE_SHARE * seconds)
    advice = sorted((each for each in tried if each.factor >= WORTHWHILE), key=lambda each: -each.factor)
    return dataclasses.replace(bench, advice=tuple(advice))


def local_root(root: str | os.PathLike[str]) -> str:
    """A directory of local files.

    Raises:
        ValueError: If it is one of another file system.
    """
    path = os.fspath(root)
    if is_remote(path):
        raise ValueError(f"{path}: expected a local directory, whose shards are mapped; --loader tf reads others")
    return path


def _row_bytes(manifest: Manifest, split: str) -> float:
    return sum(shard.bytes for shard in manifest.shards(split)) / manifest.rows(split)


class _Subject(abc.ABC):
    """A loader of a split, its stages, and changes that are its own.

    Attributes:
        how: How the stages are measured.
    """

    how: str

    def __init__(self, root: str, manifest: Manifest, split: str) -> None:
        self.root, self.manifest, self.split = root, manifest, split

    @abc.abstractmethod
    def batches(self, batch_size: int, *, seed: int, ahead: int = loaders.AUTOTUNE) -> Iterator[float]:
        """Runs the loader without end.

        Args:
            batch_size: The rows of a batch.
            seed: The seed of the order.
            ahead: How many batches to keep ready.

        Returns:
            The number of rows of each batch.
        """

    @abc.abstractmethod
    def stages(self, batch_size: int, seconds: float) -> tuple[Stage, ...]:
        """Where the time goes; each measurement takes some seconds."""

    @abc.abstractmethod
    def others(self, batch_size: int) -> dict[str, Callable[[], Iterator[float]]]:
        """What may be run in place of this loader: what that is, and what runs it, as `batches` does."""

    @abc.abstractmethod
    def derived(self, bench: Bench, rate: float) -> Iterator[Advice]:
        """Changes whose effect follows from the stages; `rate` is the loader's, in rows a second."""


def _try(subject: _Subject, bench: Bench, seconds: float) -> Iterator[Advice]:
    """Runs what could be changed."""
    size, larger = bench.batch_size, LARGER * bench.batch_size

    def rate(make: Callable[[], Iterator[float]]) -> float:
        return timing.pace(make, seconds).rate

    others = subject.others(size)
    if larger <= subject.manifest.rows(subject.split):
        others[f"larger batches, such as of {larger:,} rows"] = lambda: subject.batches(larger, seed=5)
    # What was read before is read faster, so a change has to beat the loader as it was before and after it.
    now = rate(lambda: subject.batches(size, seed=3))
    rates = {change: rate(make) for change, make in others.items()}
    now = max(now, rate(lambda: subject.batches(size, seed=6)))
    for change, found in rates.items():
        yield Advice(change=change, factor=found / now)
    yield from subject.derived(bench, now)
    # Where a batch takes longer than a step, no number of batches ahead lasts.
    if bench.step is not None and size / now < bench.step.seconds:
        more = timing.feed(subject.batches(size, seed=7, ahead=MORE_AHEAD), bench.step.seconds, bench.seconds)
        factor = (1 - more.waiting) / (1 - bench.step.waiting)
        yield Advice(change=f"more batches ahead, such as prefetch={MORE_AHEAD}", factor=factor)


class _Numpy(_Subject):
    """`loaders.numpy.Loader`."""

    how = (
        "the stages of one thread were timed as it made batches, without reading ahead; to read is to map the shards "
        "and to touch each page, which is fast where the system holds it in memory"
    )

    def __init__(self, root: str, manifest: Manifest, split: str) -> None:
        super().__init__(root, manifest, split)
        self._from_disk = 0.0

    def batches(self, batch_size: int, *, seed: int, ahead: int = loaders.AUTOTUNE) -> Iterator[float]:
        return _rows(Loader(self.root, self.split, batch_size=batch_size, seed=seed, epochs=None, prefetch=ahead))

    def stages(self, batch_size: int, seconds: float) -> tuple[Stage, ...]:
        clock = timing.Clock()
        loader = timing.TimedLoader(self.root, self.manifest, self.split, batch_size=batch_size, seed=2, clock=clock)
        rows = 0.0

        def counted() -> Iterator[float]:
            nonlocal rows
            clock.restart()
            for count in _rows(loader):
                rows += count
                yield count

        before = timing.disk_bytes()
        timing.pace(counted, seconds)
        clock.switch(READ)
        self._from_disk = min(1.0, (timing.disk_bytes() - before) / clock.touched)
        spent = clock.seconds
        if self.manifest.record_bytes is None:  # such records are parsed one by one, each when its checksum is right
            spent = {f"{CHECKSUM} and {DECODE}" if name == DECODE else name: spent[name] for name in spent}
            del spent[CHECKSUM]
        total = sum(spent.values())
        return tuple(Stage(name=name, seconds_per_row=spent[name] / rows, share=spent[name] / total) for name in spent)

    def others(self, batch_size: int) -> dict[str, Callable[[], Iterator[float]]]:
        return {}

    def derived(self, bench: Bench, rate: float) -> Iterator[Advice]:
        (read,) = (stage for stage in bench.stages if stage.name == READ)
        yield Advice(change=FASTER_DISK, factor=1 / (1 - read.share * self._from_disk))


def _rows(batches: Iterable[Any]) -> Iterator[float]:
    """The number of rows of each batch, a dict of arrays or tensors; the iteration begins at once."""
    return (int(next(iter(batch.values())).shape[0]) for batch in batches)


class _Tf(_Subject):
    """`loaders.load`."""

    how = (
        "pipelines were run on the threads that tf.data takes, each with one step more than the one before; a stage is "
        "the time that its step adds to a row, which is 0 where the threads hide it; to read is a TFRecordDataset over "
        "the shards as they are stored, which compares checksums, for the second time; batch is to cut batches and to "
        "hand them to Python"
    )

    def __init__(self, root: str, manifest: Manifest, split: str) -> None:
        import tensorflow as tf  # the first batch does not wait for it

        super().__init__(root, manifest, split)
        self._tf = tf
        self._first_rate = 0.0

    def batches(self, batch_size: int, *, seed: int, ahead: int = loaders.AUTOTUNE) -> Iterator[float]:
        return self._load(batch_size, seed=seed, prefetch=ahead)

    def _load(self, batch_size: int, **options: Any) -> Iterator[float]:
        return _rows(loaders.load(self.root, self.split, batch_size=batch_size, epochs=None, **options))

    def _records(self) -> Iterator[float]:
        """Reads the records, and does nothing with them."""
        from loaders.tensorflow.untuned import untuned

        shards, full = self.manifest.shards(self.split), self.manifest.rows_per_record
        files = [posixpath.join(self.root, *shard.file.split("/")) for shard in shards if shard.rows]
        records = sum(-(-shard.rows // full) for shard in shards)
        data = self._tf.data.TFRecordDataset(files, buffer_size=READ_BYTES, num_parallel_reads=PARALLEL_READS)
        data = data.repeat().batch(Chunks.of(self.manifest, self.split).records).prefetch(loaders.AUTOTUNE)
        each = self.manifest.rows(self.split) / records
        return (int(batch.shape[0]) * each for batch in untuned(data))

    def stages(self, batch_size: int, seconds: float) -> tuple[Stage, ...]:
        chunks, rows = Chunks.of(self.manifest, self.split), self.manifest.rows(self.split)
        chunk, window = chunks.records * chunks.rows_per_record, min(rows, window_rows(self.manifest, self.split))
        # A chunk or a window is passed on as it was read; padding it to its longest row might take any memory.
        whole: dict[str, Any] = {"transform": False, "ragged": "ragged"}
        runs: dict[str, Callable[[], Iterator[float]]] = {
            READ: self._records,
            "parse": lambda: self._load(chunk, shuffle=False, **whole),
            "shuffle": lambda: self._load(window, seed=2, **whole),
            "batch": lambda: self._load(batch_size, seed=2, transform=False),
        }
        if self.manifest.transformed is not None:
            runs["transform"] = lambda: self._load(batch_size, seed=2)
        self._first_rate = timing.pace(self._records, seconds).rate
        spent = [1 / timing.pace(run, seconds).rate for run in runs.values()]
        # With fewer steps it takes no longer, whatever else the machine did meanwhile.
        reached = list(itertools.accumulate(reversed(spent), min))[::-1]
        return tuple(
            Stage(name=name, seconds_per_row=after - before, share=(after - before) / reached[-1])
            for name, (before, after) in zip(runs, itertools.pairwise([0.0, *reached]), strict=True)
        )

    def others(self, batch_size: int) -> dict[str, Callable[[], Iterator[float]]]:
        if self.manifest.transformed is not None or "://" in self.root:
            return {}
        numpy = _Numpy(self.root, self.manifest, self.split)
        return {"loaders.numpy.Loader in place of loaders.load": lambda: numpy.batches(batch_size, seed=4)}

    def derived(self, bench: Bench, rate: float) -> Iterator[Advice]:
        if self.manifest.transformed is not None:
            yield Advice(change="`store: transformed` in place of raw", factor=1 / (1 - bench.stages[-1].share))
        yield Advice(change=FASTER_DISK, factor=rate / self._first_rate)
