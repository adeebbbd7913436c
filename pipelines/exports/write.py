"""Writes an export: a task for each piece, whose files come whole; what is there is not written again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence

import numpy as np

from loaders.format import names
from loaders.format.decode import Columns
from loaders.format.manifest import Manifest
from pipelines import counters
from pipelines.errors import ConfigError, OutputError, Problem
from pipelines.exports.protocol import ExportPiece, Target, Written
from pipelines.output.directory import Output, local_directory
from pipelines.output.state import manifest_digest
from pipelines.reading.shard_reader import read_shard
from pipelines.runners.beam import check_runner, run_pipeline
from pipelines.runners.handoff import hand_over
from pipelines.runners.pool import started
from pipelines.runners.process_setup import quick_imports
from pipelines.storage import directories, files

STAGE = "export"
FORMAT = "npyflow-export"

BATCH_BYTES = 8 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What is written where. All that is not part of the export lies under `_build/`, as that of a build does."""

    root: str  # the data set
    manifest: Manifest
    target: Target
    to: str  # the format's name
    output: Output  # where the export is written

    def check(self) -> None:
        """Checks that the format can hold the features, and that the directory is empty or was begun by this export."""
        for spec in self.manifest.features:
            if unfit := self.target.unfit(spec):
                expected, _, found = unfit.partition("; found ")
                problem = Problem(path=f"to {self.to}", feature=spec.name, expected=expected, found=found)
                raise ConfigError(str(problem))
        if files.exists(self.output.state):
            if files.read_bytes(self.output.state) != self._state:
                expected = "expected what this export has begun; found what other work has"
                raise OutputError(f"{self.output.root}: {expected}")
        elif directories.list_names(self.output.root):
            raise OutputError(f"{self.output.root}: expected a directory that is empty or new; found files")

    def pieces(self) -> list[ExportPiece]:
        """The pieces of all splits."""
        return [piece for split in self.manifest.splits for piece in self.target.pieces(self.manifest, split)]

    def run(self, pieces: Sequence[ExportPiece], *, workers: int, beam_options: Sequence[str]) -> None:
        """Writes those of the pieces that are not there yet; errors are those of `export`."""
        check_runner(workers, beam_options)
        self.check()
        files.write_bytes(self.output.state, self._state)
        reference = hand_over(self, self.output.plan)
        done = directories.list_names(self.output.tasks)
        left = [piece for piece in pieces if piece.name not in done]
        with quick_imports():
            from pipelines.runners.distribute import Distribute

        errors = self.output.errors
        with (
            started(workers, self, beam_options) as pool,
            run_pipeline(beam_options, output=self.output.root, errors=errors) as pipeline,
        ):
            pipeline | "Export" >> Distribute(write_piece, left, reference, workers=pool, errors=errors)
        for name, data in self.target.describe(self.manifest, pieces, self._written(pieces)).items():
            self.output.put(name, data)
        directories.remove_tree(self.output.build, last=os.path.basename(names.STATE))

    def _written(self, pieces: Sequence[ExportPiece]) -> dict[str, Written]:
        """What each file is that a format wants to describe, as the tasks noted them."""
        noted = (files.read_bytes(files.join(self.output.tasks, piece.name)) for piece in pieces)
        found: dict[str, Written] = {}
        for data in noted if self.target.digests else ():
            found |= {path: Written(*file) for path, file in json.loads(data).items()}
        return found

    @property
    def _state(self) -> bytes:
        """What tells an export from others: the format, and the data set."""
        return json.dumps({"format": FORMAT, "to": self.to, "before": manifest_digest(Output(self.root))}).encode()


def write_piece(piece: ExportPiece, export: Export) -> int:
    """Writes a piece, which may have been written before; gives its rows."""
    with local_directory(export.output) as directory:
        export.target.write(piece, export.manifest.features, _batches(export, piece), directory)
        written = [file.path for file in directories.list_files(directory)]
        noted = {path: _noted(os.path.join(directory, path)) for path in written if export.target.digests}
        for path in written:
            _publish(os.path.join(directory, path), export.output.path(path))
    files.write_bytes(files.join(export.output.tasks, piece.name), json.dumps(noted).encode())
    rows = piece.stop - piece.start
    counters.advance(STAGE, rows=rows, size=_bytes(export.manifest, piece.split) * rows // piece.rows)
    return rows


def _noted(path: str) -> Written:
    with open(path, "rb") as file:
        return Written(os.path.getsize(path), hashlib.file_digest(file, "sha256").hexdigest())


def _publish(staged: str, path: str) -> None:
    """Moves a local file to where it is to lie: no reader sees half of it."""
    if files.is_local(path):
        files.sync(staged)
        files.rename(staged, path)
        return
    hidden = path if files.writes_whole(path) else f"{path}.{uuid.uuid4().hex}"
    with open(staged, "rb") as source, files.create(hidden) as copy:
        shutil.copyfileobj(source, copy, BATCH_BYTES)
    if hidden != path:
        files.rename(hidden, path)


def _batches(export: Export, piece: ExportPiece) -> Iterator[Columns]:
    """The columns of a piece's rows, about `BATCH_BYTES` of them at a time."""
    step = max(1, BATCH_BYTES * piece.rows // _bytes(export.manifest, piece.split))
    found: list[Columns] = []
    rows = 0
    for columns in _columns(export, piece):
        found.append(columns)
        rows += _rows(columns)
        if rows >= step:
            yield _joined(found)
            found, rows = [], 0
    if found:
        yield _joined(found)


def _columns(export: Export, piece: ExportPiece) -> Iterator[Columns]:
    """The same, as they are read; of shards that reach into the piece, the rows that are its own."""
    first = 0
    for shard in export.manifest.shards(piece.split):
        at, stop = first, min(piece.stop - first, shard.rows)
        first += shard.rows
        if stop <= 0 or first <= piece.start:
            continue
        for columns in read_shard(export.root, export.manifest, shard, rows=stop):
            low, high = max(piece.start - at, 0), min(piece.stop - at, _rows(columns))
            if low < high:
                yield {name: column[low:high] for name, column in columns.items()}
            at += _rows(columns)


def _bytes(manifest: Manifest, split: str) -> int:
    return sum(shard.bytes for shard in manifest.shards(split))


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _joined(found: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}
