"""The page of a data set written into it, or wherever a person wants it."""

from __future__ import annotations

import logging

from loaders.format.manifest import Manifest
from loaders.format.names import REPORT
from pipelines.output.directory import Output
from pipelines.page import facts
from pipelines.page.render import render
from pipelines.plan.plan import Plan
from pipelines.reading.sample import SourceSample
from pipelines.storage import files


def write_report(
    output: Output, manifest: Manifest, *, plan: Plan | None = None, sample: SourceSample | None = None
) -> None:
    """Writes the page of a data set into it, before the build ends; arguments are those of `facts.of_data_set`.

    A data set without a page is as good: an error is logged, and the page that was there is removed.
    """
    try:
        output.put(REPORT, render(facts.of_data_set(output.root, manifest, plan=plan, sample=sample)).encode())
    except Exception:
        path = output.path(REPORT)
        logging.getLogger("npyflow").warning("%s: the page could not be written", path, exc_info=True)
        files.remove(path)
