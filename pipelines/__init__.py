"""Builds data sets for training from arrays; `loaders` reads what was built.

Importing this package imports neither TensorFlow nor Beam: what builds is imported when it is first named.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loaders.format.manifest import ManifestError
    from pipelines.beam import Analyze, Ragged, ReadNpy, Transform, WriteDataset
    from pipelines.config.schema import DatasetConfig
    from pipelines.errors import ConfigError, DataError, NpyflowError, Problem, SourceError, WorkerError
    from pipelines.interface.build import Appended, Built, append, build, refit
    from pipelines.interface.export import Exported, export
    from pipelines.interface.inspect import Inspection, inspect
    from pipelines.interface.report import Report, report
    from pipelines.interface.validate import Thresholds, Validation, validate
    from pipelines.maintain.diff import Diff, diff
    from pipelines.maintain.leakage import Leaks, leakage
    from pipelines.maintain.status import Status, status
    from pipelines.maintain.verify import Verified, verify
    from pipelines.output.directory import OutputError

__all__ = [
    "Analyze", "Appended", "Built", "ConfigError", "DataError", "DatasetConfig", "Diff", "Exported",
    "Inspection", "Leaks", "ManifestError", "NpyflowError", "OutputError", "Problem", "Ragged", "ReadNpy", "Report",
    "SourceError", "Status", "Thresholds", "Transform", "Validation", "Verified", "WorkerError", "WriteDataset",
    "append", "build", "diff", "export", "inspect", "leakage", "refit", "report", "status", "validate", "verify",
]  # fmt: skip

_PLACES = {
    "loaders.format.manifest": "ManifestError",
    "pipelines.beam": "Analyze Ragged ReadNpy Transform WriteDataset",
    "pipelines.config.schema": "DatasetConfig",
    "pipelines.errors": "ConfigError DataError NpyflowError Problem SourceError WorkerError",
    "pipelines.interface.build": "Appended Built append build refit",
    "pipelines.interface.export": "Exported export",
    "pipelines.interface.inspect": "Inspection inspect",
    "pipelines.interface.report": "Report report",
    "pipelines.interface.validate": "Thresholds Validation validate",
    "pipelines.maintain.diff": "Diff diff",
    "pipelines.maintain.leakage": "Leaks leakage",
    "pipelines.maintain.status": "Status status",
    "pipelines.maintain.verify": "Verified verify",
    "pipelines.output.directory": "OutputError",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names.split():
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
