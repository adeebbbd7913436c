"""Prints what a worker of a cluster needs besides npyflow: the tested version of each, as lines for pip.

That is what the extras `pipelines` and `gcs` require, and what that requires in turn, as installed here, pinned as in
`constraints.txt`.
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import re
import sys

from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> None:
    """Prints the lines, sorted."""
    needed = closure("npyflow", "pipelines") | closure("npyflow", "gcs")
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = [pin for pin in map(Requirement, lines) if pin.marker is None or pin.marker.evaluate()]
    pins = {normal(pin.name): f"{pin.name}{pin.specifier}" for pin in pinned}
    if missing := sorted(needed - set(pins)):
        sys.exit(
            f"constraints.txt: expected a version of everything that is needed; found none of {', '.join(missing)}"
        )
    print("\n".join(sorted((pins[name] for name in needed), key=str.upper)))


def closure(distribution: str, extra: str) -> set[str]:
    """The names of all that a distribution with an extra requires, and what that requires, without the first."""
    found: set[tuple[str, str]] = set()
    pending = [(normal(distribution), extra)]
    while pending:
        name, extra = pending.pop()
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = {(normal(requirement.name), wanted) for wanted in ("", *requirement.extras)}
                pending += needed - found
                found |= needed
    return {name for name, _ in found}


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
