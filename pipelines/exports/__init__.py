"""A finished data set written anew for other tools: one module a format, behind `protocol.Target`."""

from __future__ import annotations

import importlib

from pipelines.errors import ConfigError
from pipelines.exports.protocol import Target

EXPORT_FORMATS = {
    "arrayrecord": "arrayrecord",
    "mds": "pipelines",
    "npy": "pipelines",
    "parquet": "pipelines",
    "webdataset": "pipelines",
    "zarr": "zarr",
}
"""For each format, which is the name of its module too, the extra with the library that it needs."""


def find(name: str) -> Target:
    """The format of a name; a ConfigError where there is none, or its library is not installed."""
    if name not in EXPORT_FORMATS:
        raise ConfigError(f"to: expected one of {', '.join(EXPORT_FORMATS)}; found {name!r}")
    try:
        target: Target = importlib.import_module(f"pipelines.exports.{name}").TARGET
    except ModuleNotFoundError as error:
        package = f"{error.name} is not installed"
        raise ConfigError(f"to {name}: {package}; pip install 'npyflow[{EXPORT_FORMATS[name]}]'") from error
    return target
