"""Prints options of Dataflow for the machines that a build needs: their type, and how many of them at most.

Takes the arguments of `npyflow build` without the output, reads the headers of the sources, and plans.
"""

from __future__ import annotations

import argparse
import math
import sys

from pipelines.commands.common import plan_sources
from pipelines.errors import NpyflowError
from pipelines.forecast import describe
from pipelines.options import make_parser
from pipelines.plan import Plan

CORES = 4

BASE_BYTES = 2**30
"""A worker's process before it has read a row: Python with TensorFlow and Beam takes 0.7 GiB."""

PER_TASK = 3
"""The rows of a task are there as read and, a batch at a time, as they are transformed, encoded and written."""

FAMILIES = {"n2-standard": 4 * 2**30, "n2-highmem": 8 * 2**30}
"""The memory that a machine has for each core."""

USABLE = 0.85
"""Of a machine's memory: the rest is the system's, and Dataflow's own."""

ONE_PROCESS = "--experiments=no_use_multiple_sdk_containers"
"""Instead of one process a core."""


def main(arguments: list[str]) -> int:
    """Prints the options in one line."""
    options, beam_options = make_parser().parse_known_args(["build", *arguments[:1], "-", *arguments[1:]])
    try:
        plan = plan_sources(options.source, argparse.Namespace(**{**vars(options), "beam_options": beam_options}))
    except NpyflowError as error:
        print(f"npyflow: {error}", file=sys.stderr)
        return error.exit_code
    print(*suggest(plan))
    return 0


def suggest(plan: Plan) -> list[str]:
    """The options for a plan."""
    process = BASE_BYTES + PER_TASK * describe(plan)["task_bytes"]
    tasks = sum(group.tasks for group in plan.groups)
    enough = [family for family, memory in FAMILIES.items() if process <= USABLE * memory]
    at_once = CORES if enough else 1
    family = enough[0] if enough else "n2-highmem"
    cores = CORES
    while not enough and process > USABLE * cores * FAMILIES[family]:
        cores *= 2
    machines = max(1, math.ceil(tasks / at_once))
    chosen = [f"--machine_type={family}-{cores}", f"--max_num_workers={machines}"]
    return chosen if enough else [*chosen, ONE_PROCESS]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
