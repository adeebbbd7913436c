"""The sources of a benchmark, and what is in them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import pathlib
from collections.abc import Callable
from typing import Any

from peers import data as arrays
from peers import digest


def make(root: pathlib.Path, kind: str, size: str | int) -> arrays.Data:
    """`arrays.make` in a process of its own."""
    return _apart(arrays.make, root, kind, size)


def reference(data: arrays.Data, normalised: bool) -> digest.Digest:
    """The digest of the sources' rows, kept beside them."""
    path = data.root.parent / f"digest-{'normalised' if normalised else 'raw'}.json"
    if not path.exists():
        path.write_text(json.dumps(dataclasses.asdict(_apart(_digest, data, normalised))))
    return digest.Digest(**json.loads(path.read_text()))


def warm(data: arrays.Data) -> None:
    """Reads the sources, so that they are in the page cache as far as it goes."""
    for path in data.root.iterdir():
        with path.open("rb") as file:
            while file.read(2**24):
                pass


def _digest(data: arrays.Data, normalised: bool) -> digest.Digest:
    return digest.digest((data.normalised() if normalised else data.raw()).blocks())


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own: what this one has had in memory would count as that of its commands."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()
