"""`validate`: arrays compared with one another and with a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipelines.interface.arguments import Config, Sources, count_workers, find_sources, read_config
from pipelines.interface.progress import Shown, following
from pipelines.maintain import validate as validating
from pipelines.maintain.reuse import open_existing
from pipelines.maintain.validate import Thresholds as Thresholds
from pipelines.maintain.validate import Validation as Validation
from pipelines.maintain.validate import plan_validation
from pipelines.sources.arrays import Arrays
from pipelines.storage import files
from pipelines.storage.connections import configure
from pipelines.storage.files import Path
from pipelines.storage.temporary import temporary_directory


def validate(
    source: Sources,
    config: Config = None,
    *,
    against: Path | None = None,
    thresholds: Thresholds | None = None,
    settings: Sequence[str] = (),
    workers: int | None = None,
    progress: Shown = None,
    beam_options: Sequence[str] = (),
) -> Validation:
    """Compares the splits of sources with each other, and with a data set: schema, ranges, missing values, classes.

    All rows are read once. Arrays in memory are written into a temporary directory before.

    Args:
        source: As in `build`.
        config: As in `build`; with `against`, only where files are, and splits and the like.
        against: The data set that the sources should be like.
        thresholds: What is still no problem; the defaults where None.
        settings: As in `inspect`.
        workers: As in `build`.
        progress: As in `build`.
        beam_options: As in `build`.

    Returns:
        All that was measured, and which of it is a problem.

    Raises:
        SourceError: Listing everything that is wrong with the sources.
        ConfigError: If the configuration does not fit them.
        ManifestError: If `against` is no data set.
        DataError: If the sources hold values that cannot be used.
    """
    with temporary_directory("validate") as directory:
        given = find_sources(source, files.join(directory, "sources"))
        parsed = read_config(config, settings, sources=given)
        configure(parsed.storage_options)
        existing = None if against is None else open_existing(os.fspath(against))
        planned = plan_validation(given, parsed, existing)
        if isinstance(given, Arrays):
            given.write()
        with following(progress, planned.plan, profiles=True):
            return validating.validate(
                planned,
                thresholds,
                beam_options=beam_options,
                workers=count_workers(workers, planned.plan, beam_options),
            )
