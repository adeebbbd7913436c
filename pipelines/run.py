"""A build, or an append, from end to end; this page is the whole of it."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack

from loaders.format.manifest import Manifest
from loaders.format.names import REPORT
from pipelines.analyze.accumulate import begin_first_round
from pipelines.analyze.classes import check_names
from pipelines.errors import OutputError
from pipelines.forecast.space import check_space
from pipelines.maintain.append import Appended
from pipelines.maintain.reuse import Existing, copy_learned
from pipelines.output.commit import begin_append, finish, name_anew, prepare
from pipelines.output.directory import Output, read_manifest
from pipelines.output.lock import held
from pipelines.output.state import check, write_description
from pipelines.output.tasks import has_learned
from pipelines.plan.plan import Plan
from pipelines.reading.sample import SourceSample, sample_sources
from pipelines.runners.beam import check_runner, option_value, run_pipeline, runs_here, threads
from pipelines.runners.flink import stop_earlier
from pipelines.runners.handoff import Handoff, hand_over
from pipelines.runners.pool import WorkerPool, Workers, started, this_process
from pipelines.runners.process_setup import quick_imports
from pipelines.sources.arrays import Arrays
from pipelines.storage import directories, files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build:
    """A build whose sources were checked and that has not begun, or what is left of one."""

    plan: Plan  # from `make_plan`, or `plan_reuse`
    root: str
    overwrite: bool = False  # whether a data set or an unfinished build in the output is replaced
    transform: Existing | None = None  # whose transform is used, if none is learned
    arrays: Arrays | None = None  # sources in memory, which become files once the output is this build's
    sync: bool = True  # whether all is on the disk before the manifest is
    beam_options: Sequence[str] = ()  # without a runner, Beam's direct one in this process
    report: bool = False  # whether a page that shows the data set is written beside it

    @property
    def _transform_from(self) -> str | None:
        return None if self.transform is None else self.transform.fingerprint

    def check(self) -> None:
        """Checks that the output may be written to, and has room: else an OutputError; `run` does it too."""
        output = Output(self.root)
        begin = check(output, self.plan, overwrite=self.overwrite, transform_from=self._transform_from)
        if begin != "finished":
            check_space(self.plan, output, self.arrays)

    def run(self, *, workers: int = 1) -> Manifest:
        """Runs the build with so many processes of this machine; 1 is this process alone.

        Returns the manifest of the finished data set. Errors are those of `build`.
        """
        check_runner(workers, self.beam_options)
        output = Output(files.absolute(self.root), self.sync)
        if self.transform is not None and _resolve_links(output.root) == _resolve_links(self.transform.root):
            expected = "expected another directory than that of the data set whose transform is used"
            raise OutputError(f"{self.root}: {expected}")
        transform_from = self._transform_from
        self.check()  # before there is even a lock
        with held(output):
            stop_earlier(self.beam_options, output.root)
            begin = prepare(output, self.plan, overwrite=self.overwrite, transform_from=transform_from)
            if begin == "finished":
                return read_manifest(output.root)
            if self.arrays is not None:
                self.arrays.write()
            analyzed = begin == "resume" and has_learned(output)
            if not analyzed:
                directories.remove_tree(output.staged)
            if self.transform is not None and not analyzed:
                copy_learned(self.transform, output)
                analyzed = True
            plan = name_anew(self.plan, output)
            if analyzed and self.transform is None:
                check_names(plan, output)
            write_description(output, plan)
            return self._run_stages(plan, output, analyzed=analyzed, workers=workers)

    def _run_stages(self, made: Plan, output: Output, *, analyzed: bool, workers: int) -> Manifest:
        """Learns the transform, unless that is done, writes the shards and publishes the data set."""
        plan = hand_over(made, output.plan)
        with ExitStack() as stack:
            pool = stack.enter_context(WorkerPool(made)) if workers > 1 else None
            first_round = None
            if pool is not None and not analyzed:
                # While this process imports TensorFlow and Beam, which takes seconds, others read the rows.
                first_round = begin_first_round(made, pool.start_early(workers - 1))
            with quick_imports():
                from pipelines.analyze.beam import Analyze
                from pipelines.analyze.export import analysis_context
                from pipelines.publish.manifest import publish
                from pipelines.write.shards import WriteShards

            if pool is not None:
                pool.start(workers)
            does_work: Workers | None = pool or this_process(made, self.beam_options)
            placed = self.beam_options
            custom = made.config.custom
            if pool is not None and custom is not None and custom.traced is None and not analyzed:
                placed = [*placed, *threads(workers)]
            with run_pipeline(placed, output=output.root, errors=output.errors) as pipeline:
                ready = None
                if not analyzed:
                    here, shared = runs_here(self.beam_options), option_value(self.beam_options, "--temp_location")
                    stack.enter_context(analysis_context(made, output, here=here, shared=shared))
                    ready = pipeline | "Analyze" >> Analyze(plan, output, workers=does_work, first_round=first_round)
                pipeline | "Write" >> WriteShards(plan=plan, output=output, transform_ready=ready, workers=does_work)
            # Before sources that were arrays in memory go.
            sample = sample_sources(made) if self.report else None
            manifest = publish(made, output, transform_from=self._transform_from)
        if self.report:
            _write_report(output, manifest, plan=made, sample=sample)
        finish(output)
        return manifest


def run_append(
    plan: Plan,
    existing: Existing,
    *,
    arrays: Arrays | None = None,
    sync: bool = True,
    beam_options: Sequence[str] = (),
    workers: int = 1,
) -> Appended:
    """Runs a planned append, or what is left of it if it was interrupted; arguments and errors are as of a `Build`.

    Until it is done the data set stays as it was: the new shards are in no manifest.
    """
    check_runner(workers, beam_options)
    output = Output(existing.root, sync)
    check_space(plan, output, arrays)
    with held(output):
        stop_earlier(beam_options, output.root)
        with quick_imports():
            from pipelines.maintain.profile import WriteProfile
            from pipelines.maintain.publish_append import publish_append
            from pipelines.write.shards import WriteShards

            if workers > 1:
                import tensorflow  # noqa: F401  # once for all workers

        profiled = begin_append(plan, output)
        if arrays is not None:
            arrays.write()
        reference: Handoff[Plan] = hand_over(plan, output.plan)
        write_description(output, plan)
        with (
            started(workers, plan, beam_options) as pool,
            run_pipeline(beam_options, output=output.root, errors=output.errors) as pipeline,
        ):
            if not profiled:
                only = (plan.training_split,)
                profile = WriteProfile(
                    plan=reference, path=output.profile, only=only, sampled=True, errors=output.errors, workers=pool
                )
                pipeline | "Profile" >> profile
            pipeline | "Write" >> WriteShards(plan=reference, output=output, workers=pool)
        report = files.exists(output.path(REPORT))
        appended = publish_append(plan, existing, output)
        if report:
            _write_report(output, appended.manifest)
        finish(output)
        return appended


def _write_report(
    output: Output, manifest: Manifest, *, plan: Plan | None = None, sample: SourceSample | None = None
) -> None:
    """Writes the page of a data set into it, before the build ends; arguments are those of `facts.of_data_set`.

    A data set without a page is as good: an error is logged, and the page that was there is removed.
    """
    from pipelines.page import facts, render  # with the libraries that draw, which take a while to import

    try:
        page = render.render(facts.of_data_set(output.root, manifest, plan=plan, sample=sample))
        output.put(REPORT, page.encode())
    except Exception:
        path = output.path(REPORT)
        logging.getLogger("npyflow").warning("%s: the page could not be written", path, exc_info=True)
        files.remove(path)


def _resolve_links(root: str) -> str:
    return os.path.realpath(root) if files.is_local(root) else root
