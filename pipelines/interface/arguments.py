"""What callers may give: sources and configurations, each in several forms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.config.schema import DatasetConfig, load_config, parse_config
from pipelines.errors import ConfigError
from pipelines.plan.plan import Plan
from pipelines.runners.beam import default_workers
from pipelines.sources.arrays import Arrays
from pipelines.storage import files
from pipelines.storage.files import Path

Sources = Path | Mapping[str, Any]
"""A directory of arrays, or arrays by the names of their features, or for each split such a mapping."""

Config = Path | Mapping[str, Any] | DatasetConfig | None
"""The path of a YAML file, what such a file says, or that checked; None leaves every choice open."""


def find_sources(sources: Sources, root: str) -> str | Arrays:
    """A directory, or arrays that would be files below `root`; a SourceError if they can be no files."""
    return Arrays.of(sources, root) if isinstance(sources, Mapping) else os.fspath(sources)


def read_config(config: Config, settings: Sequence[str] = (), *, sources: str | Arrays = "") -> DatasetConfig:
    """A configuration in any form, checked; for `sources` that are arrays, whose names are names of features.

    `settings` change keys of a file, as in `load_config`. A ConfigError where a file cannot be read, or a key or value
    is not allowed.
    """
    if isinstance(config, DatasetConfig):
        found = config
    elif isinstance(config, Mapping):
        found = parse_config(config)
    else:
        found = _load(None if config is None else os.fspath(config), settings)
    return sources.claim(found) if isinstance(sources, Arrays) else found


def _load(path: str | None, settings: Sequence[str]) -> DatasetConfig:
    try:
        text = files.read_text(path) if path else ""
    except OSError as error:
        raise ConfigError(f"{path}: expected a file that can be read; found {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text; found {error.reason} at {error.start}") from error
    return load_config(text, settings, path=path or "the configuration")


def count_workers(workers: int | None, plan: Plan, beam_options: Sequence[str]) -> int:
    """How many processes of this machine share the work, where None means as many as are of use."""
    if workers is not None:
        return workers
    return default_workers(plan.table.nbytes, max(len(plan.training_units), plan.task_count), beam_options)
