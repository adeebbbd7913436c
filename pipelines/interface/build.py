"""`build`, `refit` and `append`: data sets made of arrays, and grown by more of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from loaders.format.manifest import Manifest
from loaders.format.names import REPORT
from pipelines.counters import Counter
from pipelines.interface import tables
from pipelines.interface.arguments import Config, Sources, count_workers, find_sources, read_config
from pipelines.interface.progress import Shown, following
from pipelines.maintain.append import Appended as Appended
from pipelines.maintain.append import plan_append, plan_refit, plan_sources
from pipelines.maintain.reuse import open_existing, plan_reuse
from pipelines.output.commit import clear_append, finish_append
from pipelines.output.directory import Output
from pipelines.results import Block, Result
from pipelines.run import Build, run_append
from pipelines.sources.arrays import Arrays
from pipelines.sources.worker_headers import header_reader
from pipelines.storage import files
from pipelines.storage.file_systems import StorageOptions, configure
from pipelines.storage.files import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built(Result):
    """A data set that a build has made, or has found to be made already.

    Attributes:
        root: Its directory.
        manifest: Its manifest: features, splits and shards, the configuration in full.
        counts: What was read and written, by name; empty where nothing was left to do.
    """

    root: str
    manifest: Manifest = dataclasses.field(repr=False)
    counts: Mapping[str, int] = dataclasses.field(repr=False)

    @property
    def rows(self) -> int:
        """How many rows the data set has."""
        return sum(map(self.manifest.rows, self.manifest.splits))

    def to_json(self) -> dict[str, Any]:
        """The data set's rows and splits, and what was counted."""
        splits = tables.splits_to_json(self.manifest)
        return {"root": self.root, "rows": self.rows, "splits": splits, "counts": dict(self.counts)}

    def blocks(self) -> list[Block]:
        """The splits, what was left out, and what was counted."""
        counts = tables.of_counts(self.counts, rows=self.rows) if self.counts else []
        return [tables.of_splits(self.manifest), *tables.of_left_out(self.manifest), "", *counts]


def run_planned(planned: Build, *, workers: int | None, progress: Shown) -> Built:
    """Runs a build, or what is left of it; arguments are those of `build`."""
    plan = planned.plan
    with following(progress, plan, output=planned.root, analyzes=planned.transform is None) as counter:
        manifest = planned.run(workers=count_workers(workers, plan, planned.beam_options))
    return Built(root=planned.root, manifest=manifest, counts=rows_of(counter))


def rows_of(counter: Counter) -> dict[str, int]:
    """What was counted, by name."""
    return {name: count.rows for name, count in counter.counts().items()}


def plan_build(
    source: Sources,
    output: Path,
    config: Config = None,
    *,
    transform: Path | None = None,
    overwrite: bool = False,
    sync: bool = True,
    trust: bool = False,
    report: bool = True,
    beam_options: Sequence[str] = (),
) -> Build:
    """Checks and plans what `build` builds; arguments and errors are those of `build`."""
    root = os.fspath(output)
    given = find_sources(source, Output(files.absolute(root)).sources)
    parsed = read_config(config, sources=given)
    configure(parsed.storage_options)
    existing = None if transform is None else open_existing(os.fspath(transform))
    if existing is None:
        plan = plan_sources(given, parsed, read_headers=header_reader(beam_options))
    else:
        plan = plan_reuse(given, existing, parsed, trust=trust)
    return Build(
        plan=plan,
        root=root,
        overwrite=overwrite,
        transform=existing,
        arrays=given if isinstance(given, Arrays) else None,
        sync=sync,
        report=report,
        beam_options=beam_options,
    )


def build(
    source: Sources,
    output: Path,
    config: Config = None,
    *,
    transform: Path | None = None,
    overwrite: bool = False,
    sync: bool = True,
    trust: bool = False,
    workers: int | None = None,
    progress: Shown = None,
    report: bool = True,
    beam_options: Sequence[str] = (),
) -> Built:
    """Builds a data set of arrays, or what is left of it where an earlier call was interrupted.

    Args:
        source: A directory of `.npy` and `.npz` files, here or in an object store; or arrays by the names of their
            features, or for each split such a mapping. Rows are along the first axis. Arrays in memory, in C or
            Fortran order, are written once into the output, under `_build/`, until the build is done: that takes as
            much room on the disk as they have in memory. An `np.memmap` of a whole `.npy` file is read from there. The
            shards are those of a directory with a file `NAME.npy` for each array, byte for byte.
        output: The directory for the data set, here or in an object store.
        config: A YAML file, the same as a mapping, or a `DatasetConfig`; where None, every choice is made from the
            arrays.
        transform: A data set whose transform is used as it is, with its configuration of the features; where None, the
            transform is learned from the training rows.
        overwrite: Whether a data set or an unfinished build in the output is replaced. A data set stays as it is, and
            can be read, until the new one is finished.
        sync: Whether the data set is on the disk before its manifest is, so that a power cut leaves a whole data set
            or none. False saves a few seconds where a data set is easily made again.
        trust: Whether the other data set's transform, which is a program, may do more than compute.
        workers: How many processes of this machine share the work; where None, one for each core if there is enough to
            do. The shards are the same.
        progress: True to print it; or a function that is called with a stage, the rows that are done, and all rows, by
            a thread of its own.
        report: Whether `report.html`, a page that shows the data set, is written into it.
        beam_options: Command-line options of Beam, such as `--runner=FlinkRunner`.

    Returns:
        The data set. A build that was interrupted goes on when it is called with the same arguments: files are known
        again by their times, arrays by their content.

    Raises:
        SourceError: Listing everything that is wrong with the sources; nothing was written.
        ConfigError: If the configuration is not valid or does not fit the sources, or Beam does not know an option;
            nothing was written.
        OutputError: If the output holds something that may not be replaced.
        ManifestError: If `transform` is no data set, or its transform does more than compute and is not trusted.
        DataError: If the sources hold values that cannot be used.
        WorkerError: If a worker was lost.
        OSError: If a file cannot be read or written.
    """
    planned = plan_build(
        source,
        output,
        config,
        transform=transform,
        overwrite=overwrite,
        sync=sync,
        trust=trust,
        report=report,
        beam_options=beam_options,
    )
    return run_planned(planned, workers=workers, progress=progress)


def refit(
    source: Sources,
    output: Path,
    *,
    on_error: str = "fail",
    max_bad_files: int = 100,
    sync: bool = True,
    trust: bool = False,
    workers: int | None = None,
    progress: Shown = None,
    storage_options: StorageOptions | None = None,
    beam_options: Sequence[str] = (),
) -> Built:
    """Builds a data set anew in its place, with its configuration: from all that it was made of, and what is new.

    It has a page that shows it, if it had one before.

    Args:
        source: As in `build`; all parts of the data set must be there.
        output: The data set; it is replaced.
        on_error: "skip" to leave out files that cannot be used.
        max_bad_files: How many may be left out.
        sync: As in `build`.
        trust: Whether a `preprocessing_fn` that the data set's configuration names is run.
        workers: As in `build`.
        progress: As in `build`.
        storage_options: How object stores are reached, as a configuration says it.
        beam_options: As in `build`.

    Returns:
        The new data set.

    Raises:
        NpyflowError: As in `build`; a SourceError also where a part of the data set is not in the sources.
    """
    configure(storage_options or {})
    root = os.fspath(output)
    given = find_sources(source, Output(files.absolute(root)).sources)
    planned = Build(
        plan=plan_refit(given, root, on_error=on_error, max_bad_files=max_bad_files, trust=trust),
        root=root,
        overwrite=True,
        arrays=given if isinstance(given, Arrays) else None,
        sync=sync,
        report=files.exists(Output(root).path(REPORT)),
        beam_options=beam_options,
    )
    return run_planned(planned, workers=workers, progress=progress)


def append(
    source: Sources,
    output: Path,
    *,
    on_error: str = "fail",
    max_bad_files: int = 100,
    sync: bool = True,
    trust: bool = False,
    workers: int | None = None,
    progress: Shown = None,
    storage_options: StorageOptions | None = None,
    beam_options: Sequence[str] = (),
) -> Appended | None:
    """Adds rows to a data set; its transform stays as it is, and so do the splits of the rows that it has.

    Args:
        source: As in `build`. Files that the data set has already are passed over, and so are arrays that were
            appended before.
        output: The data set.
        on_error: "skip" to leave out files that cannot be used.
        max_bad_files: How many may be left out.
        sync: As in `build`.
        trust: Whether the data set's transform, which is a program, may do more than compute.
        workers: As in `build`.
        progress: As in `build`.
        storage_options: As in `refit`.
        beam_options: As in `build`.

    Returns:
        The new manifest and how far the rows have drifted, or None where there was nothing new.

    Raises:
        ManifestError: If the output is no finished data set, or its transform does more than compute and is not
            trusted.
        SourceError: Listing everything that is wrong with the sources, and files that have changed since they were
            read.
        NpyflowError: As in `build`.
    """
    configure(storage_options or {})
    root = os.fspath(output)
    finish_append(root)
    existing = open_existing(root)
    given = find_sources(source, Output(existing.root).sources)
    arrays = given.named_by_content() if isinstance(given, Arrays) else None
    plan = plan_append(arrays or given, existing, on_error=on_error, max_bad_files=max_bad_files, trust=trust)
    if plan is None:
        clear_append(root)
        return None
    with following(progress, plan, output=root, profiles=True) as counter:
        appended = run_append(
            plan,
            existing,
            arrays=arrays,
            sync=sync,
            beam_options=beam_options,
            workers=count_workers(workers, plan, beam_options),
        )
    return dataclasses.replace(appended, counts=rows_of(counter))
