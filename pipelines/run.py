"""A build, or an append, from end to end; this page is the whole of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from loaders.format.manifest import Manifest
from pipelines.analyze.accumulate import begin_first_round
from pipelines.analyze.custom import trace_configured
from pipelines.config.schema import DatasetConfig
from pipelines.maintain.append import Addition, plan_append
from pipelines.maintain.commit import PROFILE, begin_append, clear_append, finish_append
from pipelines.maintain.reuse import Existing, copy_learned, open_existing, plan_reuse
from pipelines.output.directory import Output, OutputError, read_manifest
from pipelines.output.lock import held
from pipelines.output.state import check, prepare, write_description
from pipelines.plan.handoff import keep
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.runners.beam import (
    check_workers,
    option_value,
    pipeline_options,
    run_pipeline,
    runs_here,
)
from pipelines.runners.flink import stop_earlier
from pipelines.runners.pool import WorkerPool, started
from pipelines.runners.quiet import quick_imports
from pipelines.sources.headers import header_reader
from pipelines.sources.table import scan
from pipelines.storage import files
from pipelines.storage.connections import StorageOptions, configure

if TYPE_CHECKING:
    from pipelines.maintain.extend import Appended


def build(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: DatasetConfig | None = None,
    *,
    overwrite: bool = False,
    transform: str | os.PathLike[str] | None = None,
    beam_options: Sequence[str] = (),
    workers: int = 1,
) -> Manifest:
    """Builds a data set from a directory of `.npy` files.

    Args:
        source: The directory of the arrays.
        output: The directory for the data set.
        config: The configuration; where None, every choice is made from the arrays.
        overwrite: Whether a data set or an unfinished build in the output is replaced.
        transform: A data set whose transform is used as it is, with its configuration of the features; where None, the
            transform is learned from the training rows.
        beam_options: As in `run_build`.
        workers: As in `run_build`.

    Returns:
        The manifest of the finished data set.

    Raises:
        SourceError: Listing everything that is wrong with the sources, and where they differ from those of `transform`;
            nothing has been written.
        ConfigError: If the configuration does not fit the sources; nothing has been written.
        NpyflowError: As in `run_build`.
    """
    config = config or DatasetConfig()
    configure(config.storage_options)
    if transform is not None:
        existing = open_existing(os.fspath(transform))
        plan = plan_reuse(os.fspath(source), existing, config)
    else:
        existing = None
        table = scan(os.fspath(source), config, read_headers=header_reader(beam_options))
        plan = make_plan(table, resolve_config(config, table, custom=trace_configured(config, table)))
    return run_build(
        plan,
        os.fspath(output),
        overwrite=overwrite,
        transform=existing,
        beam_options=beam_options,
        workers=workers,
    )


def append(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    storage_options: StorageOptions | None = None,
    beam_options: Sequence[str] = (),
    workers: int = 1,
) -> Appended | None:
    """Adds the new files of a directory to a data set; its transform stays as it is.

    Args:
        source: A directory of `.npy` files; those that the data set has already are passed over.
        output: The data set.
        storage_options: How file systems are reached, as in the configuration of a build.
        beam_options: As in `run_build`.
        workers: As in `run_build`.

    Returns:
        The new manifest and how far the rows have drifted, or None where there was nothing new.

    Raises:
        ManifestError: If the output is no finished data set.
        SourceError: Listing everything that is wrong with the sources, and files that have changed since they were
            read.
        NpyflowError: As in `run_build`.
    """
    configure(storage_options or {})
    finish_append(os.fspath(output))
    existing = open_existing(os.fspath(output))
    plan = plan_append(os.fspath(source), existing)
    if plan is None:
        clear_append(os.fspath(output))
        return None
    return run_append(plan, existing, beam_options=beam_options, workers=workers)


def run_build(
    plan: Plan,
    root: str,
    *,
    overwrite: bool = False,
    transform: Existing | None = None,
    beam_options: Sequence[str] = (),
    workers: int = 1,
) -> Manifest:
    """Runs a planned build, or what is left of it if it was interrupted.

    Args:
        plan: From `make_plan`, or `plan_reuse`.
        root: The directory for the data set.
        overwrite: Whether a data set or an unfinished build in the output is replaced.
        transform: The data set whose transform is used, if none is learned.
        beam_options: Command-line options of Beam; with no runner named, Beam's direct runner in this process.
        workers: How many processes of this machine share the work; 1 for this process alone.

    Returns:
        The manifest of the finished data set.

    Raises:
        OutputError: If the output holds something that may not be replaced, or the transform.
        DataError: If the sources hold values that cannot be used.
        ConfigError: If Beam does not know an option or the runner, or workers are not possible.
        WorkerError: If a forked process was killed.
    """
    check_workers(workers, beam_options)
    if beam_options:
        pipeline_options(beam_options)  # before anything is written; importing Beam to check nothing would take seconds
    output = Output(files.absolute(root))
    if transform is not None and _resolve_links(output.root) == _resolve_links(transform.root):
        raise OutputError(f"{root}: expected another directory than that of the data set whose transform is used")
    fingerprint = None if transform is None else transform.fingerprint
    check(output, plan, overwrite=overwrite, transform_from=fingerprint)  # before there is even a lock
    with held(output):
        return _run_build(
            plan, output, overwrite=overwrite, transform=transform, beam_options=beam_options, workers=workers
        )


def _run_build(
    plan: Plan,
    output: Output,
    *,
    overwrite: bool,
    transform: Existing | None,
    beam_options: Sequence[str],
    workers: int,
) -> Manifest:
    """Does what `run_build` does, for which nobody else builds there."""
    fingerprint = None if transform is None else transform.fingerprint
    stop_earlier(beam_options, output.root)
    begin = prepare(output, plan, overwrite=overwrite, transform_from=fingerprint)
    if begin == "finished":
        return read_manifest(output.root)
    analyzed = begin == "resume" and files.exists(output.analysis_done)
    if transform is not None and not analyzed:
        copy_learned(transform, output)
        analyzed = True

    plan = keep(plan, output.plan)
    write_description(output, plan)
    with ExitStack() as stack:
        pool = stack.enter_context(WorkerPool(plan)) if workers > 1 else None
        first_round = None
        if pool is not None and not analyzed:
            # While this process imports TensorFlow and Beam, which takes seconds, others read the rows.
            first_round = begin_first_round(plan, pool.start_early(workers - 1))
        with quick_imports():
            from pipelines.analyze.beam import Analyze
            from pipelines.analyze.export import analysis_context
            from pipelines.publish.manifest import publish
            from pipelines.write.shards import WriteShards

        if pool is not None:
            pool.start(workers)
        with run_pipeline(beam_options, output=output.root, errors=output.errors) as pipeline:
            ready = None
            if not analyzed:
                here, shared = runs_here(beam_options), option_value(beam_options, "--temp_location")
                stack.enter_context(analysis_context(plan, output, here=here, shared=shared))
                ready = pipeline | "Analyze" >> Analyze(plan, output, workers=pool, first_round=first_round)
            pipeline | "Write" >> WriteShards(plan, output, transform_ready=ready, workers=pool)
        return publish(plan, output, transform_from=fingerprint)


def _resolve_links(root: str) -> str:
    return os.path.realpath(root) if files.is_local(root) else root


def run_append(plan: Addition, existing: Existing, *, beam_options: Sequence[str] = (), workers: int = 1) -> Appended:
    """Runs a planned append, or what is left of it if it was interrupted.

    Until it is done the data set stays as it was: the new shards are in no manifest.

    Args:
        plan: From `plan_append`.
        existing: The data set.
        beam_options: As in `run_build`.
        workers: As in `run_build`.

    Returns:
        The new manifest, and how far the rows have drifted.

    Raises:
        DataError: If the sources hold values that cannot be used.
        ConfigError: If Beam does not know an option or the runner, or workers are not possible.
        WorkerError: If a forked process was killed.
    """
    check_workers(workers, beam_options)
    if beam_options:
        pipeline_options(beam_options)
    with held(Output(existing.root)):
        return _run_append(plan, existing, beam_options=beam_options, workers=workers)


def _run_append(plan: Addition, existing: Existing, *, beam_options: Sequence[str], workers: int) -> Appended:
    """Does what `run_append` does, while nobody else changes the data set."""
    output = Output(existing.root)
    stop_earlier(beam_options, output.root)

    with quick_imports():
        from pipelines.maintain.extend import publish_append
        from pipelines.maintain.profile import WriteProfile
        from pipelines.write.shards import WriteShards

        if workers > 1:
            import tensorflow  # noqa: F401  # once for all workers

    profiled = begin_append(plan, output)
    plan = keep(plan, output.plan)
    write_description(output, plan)
    with (
        started(workers, plan) as pool,
        run_pipeline(beam_options, output=output.root, errors=output.errors) as pipeline,
    ):
        if not profiled:
            path = files.join(output.statistics, PROFILE)
            pipeline | "Profile" >> WriteProfile(
                plan, path, only=(plan.training_split,), errors=output.errors, workers=pool
            )
        pipeline | "Write" >> WriteShards(plan, output, transform_ready=None, workers=pool)
    return publish_append(plan, existing, output)
