"""Builds data sets for training from arrays. What needs TensorFlow or Beam is imported when it is first named."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loaders.format.manifest import ManifestError
    from pipelines import analyzers
    from pipelines.beam import Analyze, Ragged, ReadNpy, Transform, WriteDataset
    from pipelines.config.schema import DatasetConfig
    from pipelines.errors import ClusterError, ConfigError, DataError, NoBuildError, NpyflowError, OutputError
    from pipelines.errors import Problem, PublishError, SourceError, WorkerError  # isort: skip
    from pipelines.interface.build import Appended, Built, append, build, refit
    from pipelines.interface.export import Exported, export
    from pipelines.interface.inspect import Inspection, inspect
    from pipelines.interface.report import Report, report
    from pipelines.interface.validate import Thresholds, Validation, validate
    from pipelines.maintain.diff import Diff, diff
    from pipelines.maintain.leakage import Leaks, leakage
    from pipelines.maintain.status import Status, status
    from pipelines.maintain.verify import Verified, verify

__all__ = [
    "Analyze", "Appended", "Built", "ClusterError", "ConfigError", "DataError", "DatasetConfig", "Diff", "Exported",
    "Inspection", "Leaks", "ManifestError", "NoBuildError", "NpyflowError", "OutputError", "Problem", "PublishError",
    "Ragged", "ReadNpy", "Report", "SourceError", "Status", "Thresholds", "Transform", "Validation", "Verified",
    "WorkerError", "WriteDataset", "analyzers", "append", "build", "diff", "export", "inspect", "leakage", "refit",
    "report", "status", "validate", "verify",
]  # fmt: skip

_HOMES = {
    "loaders.format.manifest": "ManifestError",
    "pipelines.beam": "Analyze Ragged ReadNpy Transform WriteDataset",
    "pipelines.config.schema": "DatasetConfig",
    "pipelines.interface.build": "Appended Built append build refit",
    "pipelines.interface.export": "Exported export",
    "pipelines.interface.inspect": "Inspection inspect",
    "pipelines.interface.report": "Report report",
    "pipelines.interface.validate": "Thresholds Validation validate",
    "pipelines.maintain.diff": "Diff diff",
    "pipelines.maintain.leakage": "Leaks leakage",
    "pipelines.maintain.status": "Status status",
    "pipelines.maintain.verify": "Verified verify",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
    if name == "analyzers":
        return importlib.import_module("pipelines.analyzers")
    home = next((module for module, names in _HOMES.items() if name in names.split()), "pipelines.errors")
    return getattr(importlib.import_module(home), name)
