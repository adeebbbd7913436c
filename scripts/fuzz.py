"""Feeds damaged files to what reads them: headers, archives, manifests, shards, records.

python scripts/fuzz.py                          10,000 of each kind
python scripts/fuzz.py --cases 10000000 npy     as many of one kind; --seed 5 tries others

It prints a table of what was tried, and ends with 1 if one was read as something else than NumPy reads, or ended in an
error that is none of its own. Seeds that failed are kept in `FAILED` of tests/support/fuzzing.py: tests try them again.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tests.support.fuzzing import KINDS, run

AT_ONCE = 1000


def main() -> int:
    """Tries all that is asked for."""
    parser = argparse.ArgumentParser(description="Feeds damaged files to what reads them.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; all if not given")
    parser.add_argument("--cases", type=int, default=10_000, metavar="N", help="how many of each kind (10,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which: as many seeds after N times as many")
    options = parser.parse_args()
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"expected kinds of {', '.join(KINDS)}; found {', '.join(unknown)}")
    failed = False
    print("| kind | tried | read | refused | failed | seconds |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    for kind in options.kinds or KINDS:
        failed |= _try(kind, range(options.seed * options.cases, (options.seed + 1) * options.cases))
    return int(failed)


def _try(kind: str, seeds: range) -> bool:
    """Tries some cases of a kind, prints their row of the table, and says whether one has failed."""
    begun, outcomes, failures = time.monotonic(), {True: 0, False: 0}, []
    for first in range(seeds.start, seeds.stop, AT_ONCE):
        left = list(range(first, min(first + AT_ONCE, seeds.stop)))
        while left:
            found, failure = run(kind, left)
            for outcome, count in found.items():
                outcomes[outcome] += count
            left = left[sum(found.values()) + 1 :] if failure else []
            failures += [failure] if failure else []
    took = time.monotonic() - begun
    print(f"| {kind} | {len(seeds):,} | {outcomes[True]:,} | {outcomes[False]:,} | {len(failures):,} | {took:.0f} |")
    for failure in failures:
        print(failure, file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
