"""The versions of the packages that decide what is written; a worker must have those of the driver."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping

from loaders.version import VERSION
from pipelines.errors import WorkerError

PACKAGES = ("apache-beam", "numpy", "tensorflow", "tensorflow-transform")


@functools.cache
def _of_packages() -> Mapping[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def versions() -> dict[str, str]:
    """The versions that decide what is written: of npyflow, Python, and the packages that do the work."""
    return {"npyflow": VERSION, "python": platform.python_version(), **_of_packages()}


def stamp(data: bytes) -> bytes:
    """Puts this process's versions before what it sends to workers."""
    return json.dumps(versions()).encode() + b"\n" + data


def unstamp(data: bytes, path: str) -> bytes:
    """Takes off what `stamp` has put before; nothing behind it is looked at before the versions were compared.

    A WorkerError where this process has other versions. Of Python the minor version counts, which is what pickles and
    compiled packages depend on.
    """
    line, newline, rest = data.partition(b"\n")
    try:
        expected = dict(json.loads(line)) if newline else None
    except (TypeError, ValueError):
        expected = None
    if expected is None:
        raise WorkerError(f"{path}: expected the plan of npyflow {VERSION}; found something else")
    differences = compare(expected, versions())
    if differences:
        raise WorkerError(
            f"{path}: expected the versions of the driver; found others on the worker ({platform.node()}, "
            f"{sys.executable}): {'; '.join(differences)}. Install the same versions on both"
        )
    return rest


def compare(driver: Mapping[str, str], worker: Mapping[str, str]) -> list[str]:
    """What differs between the versions of a driver and those of a worker, each in words."""
    return [
        f"{name} {driver.get(name, 'none')} on the driver, {worker.get(name, 'none')} on the worker"
        for name in sorted({*driver, *worker})
        if _compared(name, driver.get(name, "")) != _compared(name, worker.get(name, ""))
    ]


def _compared(name: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if name == "python" else version
