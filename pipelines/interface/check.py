"""`verify`, `validate`, `leakage`, `status`: what is asked of data sets and of arrays for them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from pipelines.interface.arguments import Config, Path, Sources, count_workers, find_sources, read_config
from pipelines.interface.progress import Shown, following
from pipelines.maintain import validate as validating
from pipelines.maintain import verify as verifying
from pipelines.maintain.leakage import Leaks, find_leaks
from pipelines.maintain.reuse import open_existing
from pipelines.maintain.status import Status, Watcher
from pipelines.maintain.validate import Thresholds, Validation, plan_validation
from pipelines.maintain.verify import Verified
from pipelines.sources.arrays import Arrays
from pipelines.storage import files
from pipelines.storage.connections import StorageOptions, configure


def verify(output: Path, *, storage_options: StorageOptions | None = None) -> Verified:
    """Reads every shard of a data set and compares it with the manifest, byte for byte.

    Args:
        output: The data set.
        storage_options: As in `refit`.

    Returns:
        What was read, and what is wrong with it.

    Raises:
        ManifestError: If the directory holds no manifest that can be read.
    """
    configure(storage_options or {})
    return verifying.verify(os.fspath(output))


def leakage(
    output: Path, *, features: Sequence[str] | None = None, storage_options: StorageOptions | None = None
) -> Leaks:
    """Finds rows that are in more than one split of a data set.

    Args:
        output: The data set.
        features: The features that are compared, bit for bit; where None, all inputs.
        storage_options: As in `refit`.

    Returns:
        How many different rows are in more than one split, which splits share how many, and where some of them are.

    Raises:
        ManifestError: If the directory holds no manifest that can be read.
        ConfigError: If a feature is not one of the data set, or none is compared.
        DataError: If a shard is not as the manifest says.
    """
    configure(storage_options or {})
    return find_leaks(os.fspath(output), features=features)


def status(output: Path, *, storage_options: StorageOptions | None = None) -> Status:
    """How far a build or an append is, whatever runs it and wherever; nothing but the files of the output is read.

    Args:
        output: The directory of the data set.
        storage_options: As in `refit`.

    Raises:
        NpyflowError: If the directory holds neither a data set nor a build.
        ManifestError: If its manifest cannot be read.
    """
    configure(storage_options or {})
    return Watcher(os.fspath(output)).read()


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
    with tempfile.TemporaryDirectory(prefix="npyflow-") as directory:
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
