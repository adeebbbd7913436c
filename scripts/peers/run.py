"""Runs one peer in its own environment: `python -m peers.run REQUEST`, which prints a line of JSON last.

The request is a JSON object: `peer` (a module of this package), `variant`, `action`, `data` (a directory of
`peers.data`), `normalised`, `out`, `batch`, `seconds`, `epochs` and `began`, the time at which the process was started.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from peers import data as arrays
from peers import digest


def main(request: Mapping[str, Any]) -> dict[str, Any]:
    """Does what a request says."""
    peer = importlib.import_module(f"peers.{request['peer']}")
    imported = time.time()
    data = arrays.open_data(pathlib.Path(request["data"]))
    rows = data.normalised() if request.get("normalised") else data.raw()
    out = pathlib.Path(request["out"])
    result: dict[str, Any] = {"versions": {name: importlib.metadata.version(name) for name in peer.PACKAGES}}
    if request["action"] == "build":
        if hasattr(peer, "build"):
            result |= peer.build(data, out, variant=request["variant"]) or {}
        else:
            peer.write(data.normalised(), out)
    elif request["action"] == "write":
        peer.write(rows, out)
    else:
        earlier = request.get("epochs", 1) - 1
        for _ in range(earlier):
            _time(peer.load(rows, out, batch=request["batch"], variant=request["variant"]), request, imported)
        if earlier:
            imported = time.time()  # what went before counts as start-up
        batches = peer.load(rows, out, batch=request["batch"], variant=request["variant"])
        if request["action"] == "check":
            # Some tools yield small integers as int64; what counts is that the values are the same.
            same = (
                (np.asarray(values).astype(rows.dtype, copy=False), labels) for values, labels in filter(None, batches)
            )
            result |= dataclasses.asdict(digest.digest(same))
        else:
            result |= _time(batches, request, imported)
    return result


def _time(batches: Iterator[tuple[Any, Any] | None], request: Mapping[str, Any], ready: float) -> dict[str, Any]:
    """Goes through an epoch, or through as much of it as there is time for.

    Args:
        batches: Values and labels; None, where there is one, says that only now all is ready to begin.
        request: What was asked.
        ready: When the imports were done.
    """
    rows, labels, complete, first, first_rows = 0, 0, True, 0.0, 0
    for batch in batches:
        if batch is None:
            ready = time.time()
            continue
        found = np.asarray(batch[1])
        rows, labels = rows + len(found), labels + int(found.sum())
        now = time.time()
        if not first:
            first, first_rows = now, rows
        if now - first > request["seconds"]:
            complete = False
            break
    end = time.time()
    return {
        "rows": rows,
        "labels": labels,
        "complete": complete,
        "startup": ready - request["began"],
        "first_batch": first - ready,
        "first_rows": first_rows,
        "pace": (end - first) / max(1, rows - first_rows),
    }


if __name__ == "__main__":
    print("\n" + json.dumps(main(json.loads(sys.argv[1]))), flush=True)
    sys.exit(0)
