"""`export`: a data set in the format of other tools."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from pipelines.exports import find
from pipelines.exports.write import STAGE, Export
from pipelines.interface.progress import Shown, shown
from pipelines.output.directory import Output, read_manifest
from pipelines.results import Block, Result, Table
from pipelines.runners.beam import default_workers
from pipelines.storage import files
from pipelines.storage.file_systems import StorageOptions, configure
from pipelines.storage.files import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported(Result):
    """An export that was written.

    Attributes:
        output: Its directory.
        to: Its format.
        rows: The rows of each split.
        pieces: How many pieces each split was written in: files of most formats.
    """

    output: str
    to: str
    rows: Mapping[str, int]
    pieces: Mapping[str, int]

    def blocks(self) -> list[Block]:
        """The splits."""
        rows = tuple((split, count, self.pieces[split]) for split, count in self.rows.items())
        return [f"{self.output}: {self.to}\n", Table(columns=("split", "rows:", "pieces:"), rows=rows)]


def export(
    data_set: Path,
    output: Path,
    *,
    to: str,
    workers: int | None = None,
    progress: Shown = None,
    storage_options: StorageOptions | None = None,
    beam_options: Sequence[str] = (),
) -> Exported:
    """Writes the rows of a data set for other tools: the same rows, in the order in which they are stored.

    A split is a directory, or a Zarr group, with a file for each shard; files come whole. An export that was
    interrupted goes on when it is called again.

    Args:
        data_set: The data set.
        output: The directory for the export: one that is new, empty, or holds what is left of this export.
        to: "parquet", "arrayrecord", "webdataset", "mds", "npy" or "zarr".
        workers: As in `build`.
        progress: As in `build`.
        storage_options: As in `refit`.
        beam_options: As in `build`.

    Returns:
        What was written.

    Raises:
        ManifestError: If it is no finished data set.
        ConfigError: If there is no such format, its library is not installed, or it cannot hold a feature.
        OutputError: If the directory holds something else.
        DataError: If a shard is not as the manifest says.
        WorkerError: If a worker process was killed.
    """
    configure(storage_options or {})
    target, root = find(to), files.absolute(os.fspath(data_set))
    manifest = read_manifest(root)
    work = Export(root=root, manifest=manifest, target=target, to=to, output=Output(files.absolute(os.fspath(output))))
    work.check()
    pieces, rows = work.pieces(), {split: manifest.rows(split) for split in manifest.splits}
    size = sum(shard.bytes for split in rows for shard in manifest.shards(split))
    count = default_workers(size, len(pieces), beam_options) if workers is None else workers
    with shown(progress, {STAGE: sum(rows.values())}):
        work.run(pieces, workers=count, beam_options=beam_options)
    return Exported(
        output=work.output.root,
        to=to,
        rows=rows,
        pieces={split: sum(piece.split == split for piece in pieces) for split in rows},
    )
