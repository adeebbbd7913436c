"""`report`: a page that shows a data set, or sources."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from loaders.format.names import REPORT
from pipelines.errors import ConfigError, writing
from pipelines.interface.arguments import Config, Sources, find_sources, read_config
from pipelines.maintain.append import plan_sources
from pipelines.maintain.leakage import leakage as find_leaks
from pipelines.output.directory import Output, read_manifest
from pipelines.results import Block, Result, show_bytes
from pipelines.sources.arrays import Arrays
from pipelines.storage import files
from pipelines.storage.file_systems import configure
from pipelines.storage.files import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Result):
    """A page that was written.

    Attributes:
        path: Where it is: one file that any browser opens.
        html: The page.
    """

    path: str
    html: str = dataclasses.field(repr=False)

    def blocks(self) -> list[Block]:
        """Where it is, and its size."""
        return [f"{self.path}: {show_bytes(len(self.html.encode()))}"]


def report(
    source: Sources,
    output: Path | None = None,
    config: Config = None,
    *,
    against: Path | None = None,
    leakage: bool = False,
    settings: Sequence[str] = (),
) -> Report:
    """Writes a page that shows a data set, or sources: distributions, missing values, classes, rows, what is strange.

    It is one file with nothing to load. Moments are exact where a data set has them; all else is of a sample of rows,
    which is the same in every run.

    Args:
        source: The directory of a data set, or sources as in `build`.
        output: The file; where None, `report.html` in the data set, or of sources in the working directory.
        config: As in `build`; of a data set only how its store is reached.
        against: A data set, or a directory of sources, that this one is compared with.
        leakage: Whether rows are looked for that are in more than one split of a data set, which reads all of it.
        settings: As in `inspect`.

    Returns:
        The page, and where it is.

    Raises:
        ManifestError: If a data set cannot be read.
        SourceError: Listing everything that is wrong with the sources.
        ConfigError: If the configuration is not valid or does not fit them, sources are arrays in memory, or leakage is
            asked of sources.
        DataError: If a shard is not as its manifest says.
        NpyflowError: If the page cannot be written.
    """
    given = find_sources(source, "")
    if isinstance(given, Arrays):
        raise ConfigError("report: expected a directory of arrays or of a data set; found arrays in memory")
    from pipelines.page import facts  # with the libraries that draw, which only this needs
    from pipelines.page.render import render

    def gather(root: str, said: Config) -> facts.Facts:
        parsed = read_config(said, settings if said is config else ())
        configure(parsed.storage_options)
        if files.exists(Output(root).manifest):
            return facts.of_data_set(root, read_manifest(root))
        return facts.of_sources(plan_sources(root, parsed))

    found = gather(given, config)
    if leakage and not found.built:
        raise ConfigError(f"{given}: expected a data set, whose rows can be compared; found sources")
    if leakage:
        found = dataclasses.replace(found, leaks=find_leaks(given))
    other = None if against is None else gather(os.fspath(against), None)
    path = os.fspath(output) if output is not None else Output(given).path(REPORT) if found.built else REPORT
    html = render(found, other)
    with writing(path):
        files.write_text(path, html)
    return Report(path=path, html=html)
