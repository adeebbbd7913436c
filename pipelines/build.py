"""A build from end to end; this page is the whole of it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from loaders.manifest import Manifest
from pipelines import files
from pipelines.config import DatasetConfig
from pipelines.errors import ConfigError, DataError
from pipelines.output import Output, prepare
from pipelines.plan import Plan, make_plan, resolve_config
from pipelines.sources import scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apache_beam.options.pipeline_options import PipelineOptions


def build(
    source: str,
    output: str,
    config: DatasetConfig | None = None,
    *,
    overwrite: bool = False,
    beam_options: Sequence[str] = (),
) -> Manifest:
    """Builds a data set from a directory of `.npy` files.

    Args:
        source: The directory of the arrays.
        output: The directory for the data set.
        config: The configuration; where None, every choice is made from the arrays.
        overwrite: Whether a data set or an unfinished build in the output is replaced.
        beam_options: As in `run_build`.

    Returns:
        The manifest of the finished data set.

    Raises:
        SourceError: Listing everything that is wrong with the sources; nothing has been written.
        ConfigError: If the configuration does not fit the sources; nothing has been written.
        NpyflowError: As in `run_build`.
    """
    config = config or DatasetConfig()
    table = scan(source, config)
    plan = make_plan(table, resolve_config(config, table))
    return run_build(plan, output, overwrite=overwrite, beam_options=beam_options)


def run_build(plan: Plan, root: str, *, overwrite: bool = False, beam_options: Sequence[str] = ()) -> Manifest:
    """Runs a planned build, or what is left of it if it was interrupted.

    Args:
        plan: From `make_plan`.
        root: The directory for the data set.
        overwrite: Whether a data set or an unfinished build in the output is replaced.
        beam_options: Command-line options of Beam; with no runner named, Beam's direct runner in this process.

    Returns:
        The manifest of the finished data set.

    Raises:
        OutputError: If the output holds something that may not be replaced.
        DataError: If the sources hold values that cannot be used.
        NpyflowError: If Beam does not know an option.
    """
    options = pipeline_options(beam_options)
    output = Output(root)
    resumed = prepare(output, plan, overwrite=overwrite)

    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam

    from pipelines.analyze import Analyze
    from pipelines.publish import publish
    from pipelines.write import WriteShards

    analyzed = resumed and files.exists(output.analysis_done)
    with readable_failures(), beam.Pipeline(runner=_runner(options), options=options) as pipeline:
        ready = None
        if not analyzed:
            with tft_beam.Context(temp_dir=output.temporary("transform")):
                ready = pipeline | "Analyze" >> Analyze(plan, output)
        pipeline | "Write" >> WriteShards(plan, output, transform_ready=ready)
    return publish(plan, output)


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options from the command line.

    Raises:
        ConfigError: If Beam does not know an option.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in _all_subclasses(PipelineOptions):
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        raise ConfigError(f"unknown option {' '.join(unknown)}; neither npyflow nor Beam has it")
    return PipelineOptions(list(arguments))


def _all_subclasses(cls: type[Any]) -> list[type[Any]]:
    return [found for direct in cls.__subclasses__() for found in (direct, *_all_subclasses(direct))]


def _runner(options: PipelineOptions) -> Any:
    """The runner; "DirectRunner" and nothing are the in-process runner on every machine.

    Beam's own DirectRunner starts another program where it can download it, and falls back where it cannot.
    """
    from apache_beam.options.pipeline_options import StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    name = options.view_as(StandardOptions).runner
    return FnApiRunner() if name in (None, "DirectRunner", "FnApiRunner") else name


@contextmanager
def readable_failures() -> Iterator[None]:
    """Turns a runner's failure into the error that the worker raised.

    Some runners raise the worker's own error with the step's name added, some a RuntimeError with the worker's
    traceback as text.

    Raises:
        DataError: If the worker raised one.
        KeyboardInterrupt: If the worker was interrupted.
    """
    try:
        yield
    except Exception as error:
        text = f"pipelines.errors.DataError: {error}" if isinstance(error, DataError) else str(error)
        found = re.findall(r"^pipelines\.errors\.DataError: (.*?)(?: \[while running '.*'\])?$", text, re.M)
        if found:
            raise DataError(found[-1]) from error
        if text.startswith("KeyboardInterrupt"):
            raise KeyboardInterrupt from error
        raise
