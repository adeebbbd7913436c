"""`append`: rows added to a data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from pipelines.interface.arguments import Sources, count_workers, find_sources
from pipelines.interface.build import rows_of
from pipelines.interface.progress import Shown, following
from pipelines.maintain.append import Appended as Appended
from pipelines.maintain.append import plan_append
from pipelines.maintain.reuse import open_existing
from pipelines.output.commit import clear_append, finish_append
from pipelines.output.directory import Output
from pipelines.run import run_append
from pipelines.sources.arrays import Arrays
from pipelines.storage.connections import StorageOptions, configure
from pipelines.storage.files import Path


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
