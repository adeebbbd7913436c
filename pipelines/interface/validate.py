"""`validate`: arrays compared with one another and with a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.interface.arguments import Config, Sources, count_workers, find_sources, read_config
from pipelines.interface.progress import Shown, following
from pipelines.maintain.reuse import open_existing
from pipelines.maintain.validate import Thresholds as Thresholds
from pipelines.maintain.validate import Validation as Validation
from pipelines.maintain.validate import ValidationPlan, measure, plan_validation
from pipelines.runners.beam import check_runner, option_value, run_pipeline
from pipelines.runners.failures import errors_beside
from pipelines.runners.handoff import hand_over
from pipelines.runners.pool import started
from pipelines.runners.process_setup import quick_imports
from pipelines.sources.arrays import Arrays
from pipelines.storage import files
from pipelines.storage.file_systems import configure
from pipelines.storage.files import Path
from pipelines.storage.temporary import shared_directory, temporary_directory

if TYPE_CHECKING:
    from pipelines.maintain.profile import Profile


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
        count = count_workers(workers, planned.plan, beam_options)
        check_runner(count, beam_options)
        if isinstance(given, Arrays):
            given.write()
        with following(progress, planned.plan, profiles=True):
            profile = _profile(planned, count, beam_options)
    return Validation(
        rows={split: profile.rows.get(split, 0) for split in planned.plan.splits},
        schema=planned.schema,
        skipped=planned.plan.table.skipped,
        measures=tuple(measure(planned, profile, thresholds or Thresholds())),
    )


def _profile(planned: ValidationPlan, workers: int, beam_options: Sequence[str]) -> Profile:
    """Reads all rows once; a runner whose workers share no directory with this process needs `--temp_location`."""
    with quick_imports():
        from pipelines.maintain.profile import WriteProfile, read_profile

    bounds = {name: (own.min, own.max) for name, own in planned.statistics.items()}
    with shared_directory("validate", option_value(beam_options, "--temp_location")) as directory:
        path = files.join(directory, "profile.pickle")
        plan = hand_over(planned.plan, files.join(directory, "plan.pickle"))
        errors = errors_beside(path)
        with (
            started(workers, planned.plan, beam_options) as pool,
            run_pipeline(beam_options, errors=errors) as pipeline,
        ):
            pipeline | "Profile" >> WriteProfile(plan=plan, path=path, bounds=bounds, errors=errors, workers=pool)
        return read_profile(path)
