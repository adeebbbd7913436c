"""Where the work of a pipeline runs: forked workers of this machine, or a runner of Beam."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pipelines import counters
from pipelines.errors import ConfigError, GraphWritten
from pipelines.lazy import Lazy, beam
from pipelines.runners import flink
from pipelines.runners.failures import raising_recorded
from pipelines.runners.pool import choose_workers
from pipelines.runners.worker import can_fork
from pipelines.storage.file_systems import refuse_replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apache_beam.options.pipeline_options import PipelineOptions

known_options = Lazy("apache_beam.options.pipeline_options")
fn_api_runner = Lazy("apache_beam.runners.portability.fn_api_runner")

LOCAL_RUNNERS = ("directrunner", "fnapirunner")

SHARED_BYTES, SHARED_BYTES_SPAWNED = 64 * 2**20, 512 * 2**20
"""Sources below this are built by one process: the others would take longer to begin than to help."""


def default_workers(source_bytes: int, tasks: int, beam_options: Sequence[str]) -> int:
    """How many processes share some work unless the user says: one for each core, where there is enough to do.

    There is if enough bytes are read; of `tasks` it has so many at a time.
    """
    try:
        check_workers(2, beam_options)
    except ConfigError:
        return 1
    # What fits one shard is written by one process, but others can read it while this one is still importing.
    return choose_workers(tasks) if source_bytes >= (SHARED_BYTES if can_fork() else SHARED_BYTES_SPAWNED) else 1


def check_workers(workers: int, beam_options: Sequence[str]) -> None:
    """Raises a ConfigError where so many processes cannot share a build."""
    if workers < 1:
        raise ConfigError(f"workers: expected at least 1; found {workers}")
    if workers == 1:
        return
    placed = [option for option in beam_options if option.startswith(("--runner=", "--direct_"))]
    if placed:
        raise ConfigError(f"workers: expected 1 with {placed[0]}, where Beam places the work; found {workers}")


def check_runner(workers: int, beam_options: Sequence[str]) -> None:
    """Checks, before anything is written, that so many processes can share the work, and Beam's options."""
    check_workers(workers, beam_options)
    if beam_options:  # importing Beam to check nothing would take seconds
        pipeline_options(beam_options)


@contextmanager
def run_pipeline(arguments: Sequence[str], *, output: str | None = None, errors: str | None = None) -> Iterator[Any]:
    """A Beam pipeline that runs when the context is left.

    By the directory that it writes to a cluster's job is found again; in `errors` its functions record theirs.

    Raises:
        ConfigError: As in `pipeline_options`.
        DataError: If a worker raised one.
        WorkerError: If a worker, or the cluster, was lost.
        OSError: If a worker could not read or write a file, with its `filename`.
        GraphWritten: If the options ask for the graph of the job instead of the job.
    """
    options = pipeline_options(arguments)
    with ExitStack() as stack:
        stack.enter_context(raising_recorded(errors))
        if cluster := flink.Cluster.of(arguments):
            name = flink.job_name(output or uuid.uuid4().hex)
            options.view_as(known_options.GoogleCloudOptions).job_name = name
            stack.enter_context(flink.cancelled_on_failure(cluster, name))
        stack.enter_context(_not_interactive())
        pipeline = stack.enter_context(beam.Pipeline(runner=_runner(options, cluster, errors), options=options))
        yield pipeline
    if template := options.view_as(known_options.GoogleCloudOptions).template_location:
        raise GraphWritten(template)
    counters.take(pipeline.result)


@contextmanager
def _not_interactive() -> Iterator[None]:
    """Keeps Beam from making an interactive pipeline of one that is built inside the context.

    In an IPython kernel Beam puts the cell's number before the names of steps, which are to be the same everywhere. For
    that it imports its interactive runner and DataFrames, which fails without the extra `interactive`, and with pandas
    from 2.4 on: Beam 2.77 has no option for it.
    """
    if "IPython" not in sys.modules:
        yield
        return
    from apache_beam import pipeline
    from apache_beam.utils import interactive_utils

    modules, asks = (pipeline, interactive_utils), interactive_utils.is_in_ipython
    for module in modules:
        module.is_in_ipython = lambda: False
    try:
        yield
    finally:
        for module in modules:
            module.is_in_ipython = asks


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options of the command line's, each `--name=value`, or `--name` for those without a value.

    Raises:
        ConfigError: If Beam does not know an option or the runner, a value is not in the same argument, ports would be
            open to other machines, or a cluster does not answer.
    """
    refuse_replaced(arguments)
    mode = option_value(arguments, "--direct_running_mode")
    if mode not in (None, "in_memory"):
        raise ConfigError(
            f"--direct_running_mode: expected in_memory, as Beam's other modes listen on all network interfaces; "
            f"found {mode}; --workers=N shares the work among processes"
        )
    cluster = flink.Cluster.of(arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in _all_subclasses(known_options.PipelineOptions):
        options._add_argparse_args(parser)
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        known = parser._option_string_actions.get(name)
        if known is None and name in flink.JAVA_OPTIONS and cluster:
            continue
        if known is None:
            # What comes after the name may be a secret.
            raise ConfigError(f"unknown option {name}; neither npyflow nor Beam has it")
        if not equals and known.nargs != 0:
            # The next argument could as well be the directory of the sources.
            raise ConfigError(f"{name}: expected {name}=VALUE, in one argument")
    # Nobody but us wires the pipeline. Beam takes half a second to infer and compare its types.
    result = known_options.PipelineOptions(["--no_pipeline_type_check", *flink.complete(arguments)])
    _runner(result, cluster)
    return result


def runs_here(arguments: Sequence[str]) -> bool:
    """Whether Beam's options leave the work to this machine."""
    runner = option_value(arguments, "--runner")
    return runner is None or runner.lower() in LOCAL_RUNNERS


def threads(count: int) -> tuple[str, ...]:
    """Beam's options by which its direct runner works in so many threads of this process, without a network port.

    Beam warns that workers in memory have no effect. They have: each is a thread that takes its part of the bundles.
    """
    return (f"--direct_num_workers={count}",)


def option_value(arguments: Sequence[str], name: str) -> str | None:
    """The value that an option written `--name=value` has, the last one where there are several."""
    found = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{name}=")]
    return found[-1] if found else None


def _all_subclasses(cls: type[Any]) -> list[type[Any]]:
    return [found for direct in cls.__subclasses__() for found in (direct, *_all_subclasses(direct))]


def _runner(options: PipelineOptions, cluster: flink.Cluster | None, errors: str | None = None) -> Any:
    """The runner; "DirectRunner" and nothing are the in-process runner on every machine.

    Beam's own DirectRunner starts another program where it can download it, and falls back where it cannot.
    """
    name = options.view_as(known_options.StandardOptions).runner or "DirectRunner"
    if name.lower() in LOCAL_RUNNERS:
        return fn_api_runner.FnApiRunner()
    if cluster is not None:
        from pipelines.runners.flink_job import ClusterRunner

        return ClusterRunner(errors)
    try:
        return beam.runners.create_runner(name)
    except (AttributeError, ImportError, ValueError) as error:
        raise ConfigError(f"--runner: expected a runner of Beam; found {name!r} ({error})") from error
