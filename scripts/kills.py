"""Kills builds, appends and overwrites before every call that changes a file, and cuts the power there.

python scripts/kills.py              every call: an hour
python scripts/kills.py --each 20    the command is given again from 20 of the states that each command passes through

A command is done once while what it changes is recorded. Each state that a kill, or a power cut, leaves is made anew:
a data set that is there has to verify, and the same command has to end with the data set of an undisturbed one. It
prints a table of what was tried, and ends with 1 if something was not so.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from tests.support.killing import KINDS, Work, commands, record, try_image, write_sources


def main() -> int:
    """Tries all that is asked for."""
    parser = argparse.ArgumentParser(description="Kills commands before every call that changes a file.")
    parser.add_argument("--each", type=int, metavar="N", help="from how many states the command is given again (all)")
    parser.add_argument("--no_transform", action="store_true", help="build without a transform, which is faster")
    options = parser.parse_args()
    failed = False
    print("| command | before a call | states | commands given again | failed | seconds |", flush=True)
    print("| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(prefix="npyflow-kills-") as directory:
        root = pathlib.Path(directory)
        sources, transformed = write_sources(root / "sources"), not options.no_transform
        for name in commands(sources, transformed=transformed):
            work = record(name, sources, root / f"recorded-{name}", transformed=transformed)
            for kind in KINDS:
                failed |= _try(name, kind, work, root / name / kind, options.each)
    return int(failed)


def _try(name: str, kind: str, work: Work, root: pathlib.Path, each: int | None) -> bool:
    """Tries the states that one command leaves, prints their row, and says whether one has failed."""
    begun, images, failures = time.monotonic(), getattr(work, kind), []
    count = len(images) if each is None else min(each, len(images))
    again = set(np.random.default_rng(0).choice(len(images), count, replace=False).tolist())
    for number, image in enumerate(images):
        try:
            try_image(work, image, root / str(number), again=number in again)
        except Exception as error:  # whatever it is, the others are tried
            failures.append(f"{name}, {KINDS[kind]}, state {number}: {type(error).__name__}: {error}")
    took = time.monotonic() - begun
    print(f"| {name} | {KINDS[kind]} | {len(images)} | {count} | {len(failures)} | {took:.0f} |", flush=True)
    for failure in failures:
        print(failure, file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
