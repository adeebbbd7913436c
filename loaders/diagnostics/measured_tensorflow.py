"""`loaders.load` as it is measured."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from loaders.diagnostics import timing
from loaders.diagnostics.measured import FASTER_DISK, Advice, MeasuredLoader, NumpyLoader, Stage, row_counts
from loaders.diagnostics.timing import READ
from loaders.format.manifest import Manifest
from loaders.order.chunks import Chunks, window_rows
from loaders.reading.prefetch import AUTOTUNE
from loaders.storage.remote import is_remote
from loaders.tensorflow.last_steps import untuned
from loaders.tensorflow.loader import load

READ_BYTES = 1 << 20
PARALLEL_READS = 4


class TensorFlowLoader(MeasuredLoader):
    """`loaders.load`."""

    stages_how = (
        "pipelines were run on the threads that tf.data takes, each with one step more than the one before; a stage is "
        "the time that its step adds to a row, which is 0 where the threads hide it; to read is a TFRecordDataset over "
        "the shards as they are stored, which compares checksums, for the second time; batch is to cut batches and to "
        "hand them to Python"
    )

    def __init__(self, root: str, manifest: Manifest, split: str) -> None:
        super().__init__(root, manifest, split)
        self._first_rate = 0.0

    def batches(self, batch_size: int, *, seed: int, ahead: int = AUTOTUNE) -> Iterator[float]:
        return self._load(batch_size, seed=seed, prefetch=ahead)

    def _load(self, batch_size: int, **options: Any) -> Iterator[float]:
        return row_counts(load(self.root, self.split, batch_size=batch_size, epochs=None, **options))

    def _records(self) -> Iterator[float]:
        """Reads the records, and does nothing with them."""
        shards, full = self.manifest.shards(self.split), self.manifest.rows_per_record
        files = [posixpath.join(self.root, *shard.file.split("/")) for shard in shards if shard.rows]
        records = sum(-(-shard.rows // full) for shard in shards)
        data = tf.data.TFRecordDataset(files, buffer_size=READ_BYTES, num_parallel_reads=PARALLEL_READS)
        data = data.repeat().batch(Chunks.of(self.manifest, self.split).records).prefetch(AUTOTUNE)
        rows = self.manifest.rows(self.split) / records
        return (int(batch.shape[0]) * rows for batch in untuned(data))

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

    def alternatives(self, batch_size: int) -> dict[str, Callable[[], Iterator[float]]]:
        if self.manifest.transformed is not None or is_remote(self.root):
            return {}
        numpy = NumpyLoader(self.root, self.manifest, self.split)
        return {"loaders.numpy.Loader in place of loaders.load": lambda: numpy.batches(batch_size, seed=4)}

    def derived_advice(self, stages: tuple[Stage, ...], rate: float) -> Iterator[Advice]:
        if self.manifest.transformed is not None:
            yield Advice(change="`store: transformed` in place of raw", factor=1 / (1 - stages[-1].share))
        yield Advice(change=FASTER_DISK, factor=rate / self._first_rate)
