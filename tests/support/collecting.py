"""Beam pipelines of tests, and what they make as a list in the program that runs them."""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

_found = []


def local_pipeline():
    """A pipeline that the runner in this process runs; Beam takes half a second to infer and compare types."""
    return beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(["--no_pipeline_type_check"]))


def collect(transform):
    """All elements that a transform of a pipeline makes."""
    _found.clear()
    with local_pipeline() as pipeline:
        pipeline | transform | "Collect" >> beam.Map(_keep)
    return list(_found)


def _keep(element):
    """Found by its name, so that it is this process's list that grows."""
    _found.append(element)
