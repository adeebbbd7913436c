"""`inspect`: what sources and data sets hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from loaders.format.manifest import Manifest
from pipelines.errors import ConfigError
from pipelines.interface import tables
from pipelines.interface.arguments import Config, Sources, find_sources, read_config
from pipelines.interface.as_function import as_function
from pipelines.interface.as_yaml import as_yaml
from pipelines.maintain.append import plan_sources
from pipelines.output.directory import Output, read_manifest
from pipelines.output.state import read_state
from pipelines.plan.plan import Plan
from pipelines.results import Block, Result
from pipelines.sources.arrays import Arrays
from pipelines.sources.worker_headers import header_reader
from pipelines.storage import files
from pipelines.storage.file_systems import configure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection(Result):
    """What is in a directory, or in arrays.

    Attributes:
        root: The directory.
        plan: What a build would do, where there are sources.
        manifest: The manifest, where there is a data set.
        unfinished: What an interrupted run has left, in a sentence; or "".
    """

    root: str
    plan: Plan | None = dataclasses.field(default=None, repr=False)
    manifest: Manifest | None = dataclasses.field(default=None, repr=False)
    unfinished: str = ""

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration in full, of the build that would be or that was; `build` takes it as it is."""
        if self.manifest is not None:
            return self.manifest.config
        return {} if self.plan is None else self.plan.config.dump()

    def as_function(self) -> str:
        """The `preprocessing_fn` that the configuration of the build that would be means, as a program of Python.

        Raises:
            ConfigError: If there are no sources, or the configuration names a function already.
        """
        plan = self._planned()
        if plan.config.custom is not None:
            raise ConfigError(f"preprocessing_fn: expected declared features; found {plan.config.custom.place}")
        return as_function(plan.config)

    def as_yaml(self) -> str:
        """The configuration of the build that would be, as a file with comments that say why, to be changed.

        Raises:
            ConfigError: If there are no sources.
        """
        return as_yaml(self._planned(), self.root)

    def _planned(self) -> Plan:
        if self.plan is None:
            found = "a data set" if self.manifest is not None else "none"
            raise ConfigError(
                f"{self.root}: expected sources, for which a configuration means something; found {found}"
            )
        return self.plan

    def to_json(self) -> dict[str, Any]:
        """The features, the splits of a data set, and the configuration in full."""
        found: dict[str, Any] = {"root": self.root, "unfinished": self.unfinished, "config": dict(self.config)}
        if self.manifest is not None:
            features = json.loads(self.manifest.dumps())["features"]
            return found | {"features": features, "splits": tables.splits_to_json(self.manifest)}
        if self.plan is None:
            return found
        return found | {"features": self.table().to_json(), "rows": self.plan.table.rows}

    def blocks(self) -> list[Block]:
        """The features, splits and statistics; of sources what a build would make of them."""
        said: list[Block] = []
        if self.manifest is not None:
            said += tables.of_dataset(self.root, self.manifest)
        elif self.plan is not None:
            said += [*tables.of_sources(self.plan), *tables.of_steps(self.plan.config), *tables.of_forecast(self.plan)]
            said.append("\nConfiguration of a build (a file with these lines gives the same):\n")
            said.append(tables.dump_config(self.plan.config).rstrip())
        return [*said, *([self.unfinished] if self.unfinished else [])]


def inspect(
    source: Sources, config: Config = None, *, settings: Sequence[str] = (), beam_options: Sequence[str] = ()
) -> Inspection:
    """Looks at sources or at a data set; no row is read.

    Args:
        source: As in `build`, or the directory of a data set.
        config: As in `build`; of a data set only how its store is reached.
        settings: Single keys of the configuration, such as "splits.train=0.9".
        beam_options: As in `build`.

    Returns:
        What is there. Of sources also what a build would make of them: splits, shards, the configuration in full.

    Raises:
        SourceError: Listing everything that is wrong with the sources.
        ConfigError: If the configuration is not valid or does not fit them.
        ManifestError: If a data set cannot be read.
    """
    given = find_sources(source, "")
    parsed = read_config(config, settings, sources=given)
    configure(parsed.storage_options)
    if isinstance(given, Arrays):
        return Inspection(root="", plan=plan_sources(given, parsed))
    output = Output(given)
    state = read_state(output)
    manifest = read_manifest(given) if files.exists(output.manifest) else None
    plan = None
    if manifest is None and state is None:
        plan = plan_sources(given, parsed, read_headers=header_reader(beam_options))
    unfinished = "" if state is None else tables.of_unfinished(given, state)
    return Inspection(root=given, plan=plan, manifest=manifest, unfinished=unfinished)
