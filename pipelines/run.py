"""A build, or an append, from end to end; this page is the whole of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

from loaders.format.manifest import Manifest
from pipelines.analyze.accumulate import begin_first_round
from pipelines.maintain.append import Addition, Appended
from pipelines.maintain.commit import PROFILE, begin_append
from pipelines.maintain.reuse import Existing, copy_learned
from pipelines.output.directory import Output, OutputError
from pipelines.output.lock import held
from pipelines.output.state import check, prepare, write_description
from pipelines.plan.handoff import keep
from pipelines.plan.plan import Plan
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
from pipelines.sources.arrays import Arrays
from pipelines.storage import files


def run_build(
    plan: Plan,
    root: str,
    *,
    overwrite: bool = False,
    transform: Existing | None = None,
    arrays: Arrays | None = None,
    beam_options: Sequence[str] = (),
    workers: int = 1,
) -> Manifest:
    """Runs a planned build, or what is left of it if it was interrupted.

    Args:
        plan: From `make_plan`, or `plan_reuse`.
        root: The directory for the data set.
        overwrite: Whether a data set or an unfinished build in the output is replaced.
        transform: The data set whose transform is used, if none is learned.
        arrays: The sources, where they are arrays in memory: they become files once the output is this build's.
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
    _check_runner(workers, beam_options)
    output = Output(files.absolute(root))
    if transform is not None and _resolve_links(output.root) == _resolve_links(transform.root):
        raise OutputError(f"{root}: expected another directory than that of the data set whose transform is used")
    fingerprint = None if transform is None else transform.fingerprint
    check(output, plan, overwrite=overwrite, transform_from=fingerprint)  # before there is even a lock
    with held(output):
        stop_earlier(beam_options, output.root)
        begin = prepare(output, plan, overwrite=overwrite, transform_from=fingerprint)
        if begin == "finished":
            return Manifest.loads(files.read_text(output.manifest))
        if arrays is not None:
            arrays.write()
        analyzed = begin == "resume" and files.exists(output.analysis_done)
        if transform is not None and not analyzed:
            copy_learned(transform, output)
            analyzed = True
        plan = keep(plan, output.plan)
        write_description(output, plan)
        return _run_stages(
            plan, output, analyzed=analyzed, transform_from=fingerprint, beam_options=beam_options, workers=workers
        )


def _run_stages(
    plan: Plan, output: Output, *, analyzed: bool, transform_from: str | None, beam_options: Sequence[str], workers: int
) -> Manifest:
    """Learns the transform, unless that is done, writes the shards and publishes the data set."""
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
            pipeline | "Write" >> WriteShards(plan=plan, output=output, transform_ready=ready, workers=pool)
        return publish(plan, output, transform_from=transform_from)


def run_append(
    plan: Addition,
    existing: Existing,
    *,
    arrays: Arrays | None = None,
    beam_options: Sequence[str] = (),
    workers: int = 1,
) -> Appended:
    """Runs a planned append, or what is left of it if it was interrupted; arguments and errors are as in `run_build`.

    Until it is done the data set stays as it was: the new shards are in no manifest.

    Returns:
        The new manifest, and how far the rows have drifted.
    """
    _check_runner(workers, beam_options)
    output = Output(existing.root)
    with held(output):
        stop_earlier(beam_options, output.root)
        with quick_imports():
            from pipelines.maintain.extend import publish_append
            from pipelines.maintain.profile import WriteProfile
            from pipelines.write.shards import WriteShards

            if workers > 1:
                import tensorflow  # noqa: F401  # once for all workers

        profiled = begin_append(plan, output)
        if arrays is not None:
            arrays.write()
        plan = keep(plan, output.plan)
        write_description(output, plan)
        with (
            started(workers, plan) as pool,
            run_pipeline(beam_options, output=output.root, errors=output.errors) as pipeline,
        ):
            if not profiled:
                path, only = files.join(output.statistics, PROFILE), (plan.training_split,)
                profile = WriteProfile(plan=plan, path=path, only=only, errors=output.errors, workers=pool)
                pipeline | "Profile" >> profile
            pipeline | "Write" >> WriteShards(plan=plan, output=output, workers=pool)
        return publish_append(plan, existing, output)


def _check_runner(workers: int, beam_options: Sequence[str]) -> None:
    """Checks options before anything is written."""
    check_workers(workers, beam_options)
    if beam_options:  # importing Beam to check nothing would take seconds
        pipeline_options(beam_options)


def _resolve_links(root: str) -> str:
    return os.path.realpath(root) if files.is_local(root) else root
