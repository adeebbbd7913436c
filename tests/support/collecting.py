"""What a Beam pipeline makes, as a list in the program that runs it."""

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

_found = []


def collect(transform):
    """All elements that a transform of a pipeline makes, by the runner in this process."""
    _found.clear()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | transform | "Collect" >> beam.Map(_keep)
    return list(_found)


def _keep(element):
    """Found by its name, so that it is this process's list that grows."""
    _found.append(element)
